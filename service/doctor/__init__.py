"""What is wrong with this installation, and how to mend it. Works whether or not a service runs.

Promises to change nothing, to say no secret, to send none but the client key that every command sends, and to end in
time whatever hangs. Like the wiring it knows every room, and no room knows it.
"""
