"""What must not be taken out of the refresh, as edits that take it out, and the test that notices each.

An edit is exact: its old text has to occur once in the file, else the table is out of date and says so.
"""

from dataclasses import dataclass
from typing import Final

REFRESHER: Final = "broker/refresher.py"
BROKER: Final = "broker/broker.py"
CREDENTIAL: Final = "domain/credential.py"
DECIDE: Final = "domain/decide.py"
BACKOFF: Final = "domain/backoff.py"
STORE: Final = "store/credentials.py"
BACKUP: Final = "store/backup.py"
SQLITE: Final = "store/sqlite.py"
OWNER: Final = "store/owner.py"
VAULT: Final = "store/vault.py"
DATABASE: Final = "store/database.py"
REKEY: Final = "store/rekey.py"
KEYS: Final = "store/keys.py"
RELEASES: Final = "store/releases.py"
LOGINS: Final = "store/logins.py"
ANSWERS: Final = "oauth/answers.py"
ISSUER: Final = "issuer.py"


@dataclass(frozen=True, slots=True)
class Edit:
    """In a file of `service/`, new text in the place of old."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A weaker program, and the node id (below `tests/`) of the test that fails on it."""

    name: str
    edits: tuple[Edit, ...]
    killer: str


def mutant(name: str, file: str, old: str, new: str, *, killer: str) -> Mutant:
    """A mutant of one edit."""
    return Mutant(name, (Edit(file, old, new),), killer)


# -- the five that have a name ---------------------------------------------------------------------------------------

NAMED: Final = (
    mutant(
        "I7: no re-read on invalid_grant",
        REFRESHER,
        "if not await self._store.settle(claim, after):",
        "held = await self._store.load(claim.account)\n"
        "        believed = replace(held or claim, state=after.state, reason=after.reason)\n"
        "        if held and not await self._store.settle(held, believed):",
        killer="broker/test_refresh.py::test_a_refusal_after_somebody_else_has_moved_the_row_on_is_no_refusal",
    ),
    mutant(
        "I6: commit on lease instead of generation",
        STORE,
        "if not late:",
        "if before:",
        killer="store/test_settle.py::test_a_late_pair_is_stored_without_owning_the_attempt[sqlite-another attempt]",
    ),
    Mutant(
        "I2: send before intent",
        (
            Edit(
                REFRESHER,
                "claim = await self._store.claim(credential, attempt)",
                "claim: Credential | None = claimed(credential, attempt)",
            ),
            Edit(REFRESHER, "held = await self._store.load(claim.account)", "held = claim"),
            Edit(
                REFRESHER,
                "after = self._after(claim, classify(",
                "await self._store.claim(given_back(claim), attempt)\n        after = self._after(claim, classify(",
            ),
        ),
        "broker/test_refresh.py::test_the_intent_is_in_the_database_before_the_issuer_sees_anything",
    ),
    mutant(
        "I5: no shield",
        BROKER,
        "done, _ = await asyncio.wait({flight}, timeout=min(left, _GLANCE))",
        "done = set(await asyncio.wait_for(asyncio.gather(flight, return_exceptions=True), left)) or {flight}",
        killer="broker/test_refresh.py::test_callers_who_leave_do_not_end_the_refresh",
    ),
    mutant(
        "I3: no re-check before send",
        REFRESHER,
        "if held is None or held.attempt != attempt or claim.refresh_token is None or stale:",
        "if claim.refresh_token is None:",
        killer="broker/test_refresh.py::test_a_claim_that_has_grown_old_is_given_back_unsent",
    ),
)

# -- the claim -------------------------------------------------------------------------------------------------------

CLAIM: Final = (
    mutant(
        "I1: a claim beside another",
        STORE,
        "        col(_C.attempt_id) == (before.attempt.attempt_id if before.attempt else None),\n"
        "        col(_C.sends) == before.sends,\n",
        "",
        killer="store/test_claim.py::test_one_of_many_claims_wins[sqlite]",
    ),
    mutant(
        "I1: a claim on another token of the same generation",
        STORE,
        "col(_C.refresh_fingerprint) == (self._vault.fingerprint(token) if token else None),",
        "",
        killer="store/test_claim.py::test_a_claim_on_what_is_not_in_the_row_is_refused[sqlite-refresh_token]",
    ),
    mutant(
        "I1: a claim on an older generation",
        STORE,
        "        col(_C.generation) == before.generation,\n",
        "",
        killer="store/test_claim.py::test_a_claim_on_an_older_generation_of_the_same_token_is_refused[sqlite]",
    ),
    mutant(
        "I1: a claim that missed an outcome",
        STORE,
        "        col(_C.failures) == before.failures,\n",
        "",
        killer="store/test_claim.py::"
        "test_a_claim_that_missed_the_outcome_of_another_attempt_is_refused[sqlite-_put_off]",
    ),
    mutant(
        "I1: sends are not counted",
        CREDENTIAL,
        "attempt=attempt, sends=credential.sends + 1)",
        "attempt=attempt)",
        killer="broker/test_refresh.py::test_a_lost_answer_is_retried_once_when_the_first_request_is_over_and_no_more",
    ),
    mutant(
        "I1: two accounts with one login",
        STORE,
        "if connection.scalar(others):",
        "if connection.scalar(others) is None:",
        killer="broker/test_trouble.py::test_two_accounts_cannot_hold_one_login",
    ),
    mutant(
        "I1: the file that a login began with is taken for a new login",
        STORE,
        "token in (row.refresh_fingerprint, row.first_fingerprint)",
        "token == row.refresh_fingerprint",
        killer="broker/test_trouble.py::test_the_file_that_a_login_began_with_does_not_bring_back_its_spent_token",
    ),
    mutant(
        "I3: no look whether the claim still stands",
        REFRESHER,
        "held is None or held.attempt != attempt or ",
        "",
        killer="broker/test_overtaken.py::test_a_claim_that_somebody_has_cleared_meanwhile_is_not_sent",
    ),
    Mutant(
        "I3: claim first, then wait for room to send",
        (
            Edit(
                REFRESHER,
                "async with self._issuer.slot():\n            attempt =",
                "if credential:\n            attempt =",
            ),
            Edit(
                REFRESHER,
                "            await self._exchange(claim, attempt, begun, self._seams.boot())",
                "            async with self._issuer.slot():\n"
                "                await self._exchange(claim, attempt, begun, self._seams.boot())",
            ),
        ),
        "broker/test_overtaken.py::test_nothing_is_claimed_before_there_is_room_to_send_it",
    ),
)

# -- the outcome -----------------------------------------------------------------------------------------------------

OUTCOME: Final = (
    mutant(
        "I6: one try to store the pair",
        REFRESHER,
        "while (stored := await self._try_to_store(claim, after)) is None:",
        "if (stored := await self._try_to_store(claim, after)) is None:",
        killer="broker/test_refresh.py::test_a_token_given_by_the_issuer_is_served_while_the_database_does_not_take_it",
    ),
    mutant(
        "I6: a pair that is not stored yet is not served",
        BROKER,
        "if unsaved is None or not _is_successor(unsaved, credential):",
        "if True:",
        killer="broker/test_overtaken.py::test_a_pair_that_the_database_does_not_take_counts_at_once",
    ),
    mutant(
        "I6: a pair that is not stored yet overrules a logout",
        BROKER,
        'if stored is None or stored.state == "logged_out" or stored.login_id != unsaved.login_id:\n'
        "        return False\n"
        "    return stored.generation == unsaved.generation - 1",
        "return True",
        killer="broker/test_trouble.py::test_a_logout_is_not_overruled_by_a_pair_that_could_not_be_stored",
    ),
    mutant(
        "I6: a late pair over a logout",
        STORE,
        '        col(_C.state) != "logged_out",\n'
        "            col(_C.refresh_fingerprint) == (self._vault.fingerprint(token) if token else None),",
        "",
        killer="store/test_settle.py::test_a_late_writer_loses_against_a_logout[sqlite]",
    ),
    mutant(
        "I6: the late pair of a replaced login lives on at the issuer",
        REFRESHER,
        "await self.revoke(claim.provider, after.refresh_token)",
        "return",
        killer="broker/test_refresh.py::test_a_login_made_meanwhile_is_untouched_and_the_late_token_is_revoked",
    ),
    mutant(
        "I6: a late pair ends the login that moved on",
        REFRESHER,
        "if not same_login and after.refresh_token is not None:",
        "if after.refresh_token is not None:",
        killer="broker/test_overtaken.py::test_a_pair_whose_login_has_moved_on_without_it_is_not_revoked",
    ),
    mutant(
        "I7: a refusal erases the token",
        CREDENTIAL,
        'return replace(credential, state="dead", reason=final, attempt=None,',
        'return replace(credential, state="dead", reason=final, attempt=None, refresh_token=None,',
        killer="domain/test_credential.py::test_no_outcome_loses_a_refresh_token",
    ),
    mutant(
        "an answer without a refresh token erases the old one",
        CREDENTIAL,
        "refresh_token=tokens.refresh_token or credential.refresh_token,",
        "refresh_token=tokens.refresh_token,",
        killer="domain/test_credential.py::test_without_a_new_refresh_token_the_old_one_is_kept[absent]",
    ),
    mutant(
        "a life counts from after the answer",
        CREDENTIAL,
        "expires_at=sent_at + lifetime,",
        "expires_at=now + lifetime,",
        killer="domain/test_credential.py::test_a_life_counts_from_before_the_request_was_sent",
    ),
    mutant(
        "tokens of another account are served",
        CREDENTIAL,
        'fault = "account_mismatch" if foreign else tokens.fault',
        "foreign, fault = False, tokens.fault",
        killer="broker/test_refresh.py::test_tokens_of_another_account_are_kept_and_never_served",
    ),
    mutant(
        "nothing is saved from a damaged answer",
        ANSWERS,
        'if "refresh_token" in found else',
        "if not found else",
        killer="broker/test_refresh.py::test_damaged_answers_give_up_a_whole_refresh_token",
    ),
    mutant(
        "any 400 ends a login",
        ANSWERS,
        "if code in DEAD and answer.status in (400, 401, 403):\n        return Refused(DEAD[code], code)",
        "if answer.status in (400, 401, 403):\n        return Refused('refresh_token_revoked', code or '')",
        killer="broker/test_refresh.py::test_a_refused_configuration_keeps_the_login_and_asks_slowly",
    ),
)

# -- when nobody can know --------------------------------------------------------------------------------------------

UNKNOWN: Final = (
    mutant(
        "a server error counts as not sent",
        ANSWERS,
        'return Unknown(f"http_{answer.status}")',
        'return Later(f"http_{answer.status}")',
        killer="broker/test_refresh.py::test_an_uncertain_refresh_waits_until_the_token_is_about_to_expire",
    ),
    mutant(
        "an answer that does not come counts as not sent",
        ISSUER,
        "return NoAnswer(error) if self.sent or self.status else NotSent(error)",
        "return NotSent(error)",
        killer="issuer/test_issuer_outcomes.py::test_what_is_broken_off_is_no_answer[RST]",
    ),
    mutant(
        "an unclear outcome is retried at once",
        DECIDE,
        "return now >= _last_call(credential, policy)",
        "return True",
        killer="broker/test_overtaken.py::test_an_unclear_outcome_is_not_tried_again_while_the_token_is_good",
    ),
    mutant(
        "no quarantine",
        REFRESHER,
        "QUARANTINE: Final = 10.0",
        "QUARANTINE: Final = 0.0",
        killer="broker/test_refresh.py::test_a_lost_answer_is_retried_once_when_the_first_request_is_over_and_no_more",
    ),
    mutant(
        "no quarantine after a dead owner",
        REFRESHER,
        '"owner_died", now=now, until=over)',
        '"owner_died", now=now, until=now)',
        killer="broker/test_overtaken.py::test_the_request_of_a_dead_owner_is_not_repeated_before_it_is_surely_over",
    ),
    mutant(
        "a dead owner's call is taken to be over when he is",
        REFRESHER,
        "over = max(now, attempt.started_at + CLAIM_FRESH + self._call_limit) + QUARANTINE",
        "over = now + QUARANTINE",
        killer="broker/test_overtaken.py::test_the_request_of_a_dead_owner_is_not_repeated_before_it_is_surely_over",
    ),
    mutant(
        "a second unclear outcome is retried too",
        CREDENTIAL,
        "if credential.sends > 1:",
        "if credential.sends > 9:",
        killer="domain/test_credential.py::test_the_second_unknown_outcome_ends_the_login",
    ),
    mutant(
        "a flight that breaks off after sending has sent nothing",
        REFRESHER,
        "self._unwritten[claim.account] = attempt, interrupted\n",
        "del interrupted\n",
        killer="broker/test_overtaken.py::test_a_flight_that_breaks_off_after_sending_leaves_an_unknown_outcome",
    ),
    mutant(
        "an outcome that could not be written is forgotten",
        REFRESHER,
        "if ours == attempt:",
        "if ours is None:",
        killer="broker/test_trouble.py::test_an_outcome_that_could_not_be_written_is_written_later_as_what_it_was",
    ),
    mutant(
        "I8: who is stopped counts as dead",
        OWNER,
        "            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "        except OSError:\n"
        "            return False\n",
        "            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "        except OSError:\n"
        "            return True\n",
        killer="store/test_owner.py::test_who_is_stopped_is_not_dead",
    ),
)

# -- callers, pauses, the way out ------------------------------------------------------------------------------------

MANNERS: Final = (
    mutant(
        "I5: who leaves ends the reading for all",
        BROKER,
        "done, _ = await asyncio.wait({reading}, timeout=_READ_PATIENCE)",
        "done = {await asyncio.wait_for(reading, _READ_PATIENCE)}",
        killer="broker/test_overtaken.py::test_a_caller_who_leaves_does_not_end_the_reading_for_others",
    ),
    mutant(
        "I5: a stop does not wait for what was sent",
        REFRESHER,
        "while self._flights:\n            await asyncio.wait(self._flights.values())",
        "return",
        killer="broker/test_overtaken.py::test_a_stop_waits_for_what_was_sent",
    ),
    mutant(
        "memory is not asked whether it is old",
        BROKER,
        "account in self._refresher.unsaved or kept.version != self._store.version():",
        "account in self._refresher.unsaved:",
        killer="web/test_warm.py::test_a_logout_elsewhere_is_seen_at_once",
    ),
    mutant(
        "no floor under what callers ask for",
        DECIDE,
        "return last is not None and 0 <= now - last < policy.floor",
        "return last is None",
        killer="web/test_token_refresh.py::test_inside_the_floor_the_present_token_comes_with_a_warning",
    ),
    mutant(
        "a clock set back pauses for as long as it was set",
        DECIDE,
        "0 < until - now <= LONGEST else None",
        "0 < until - now else None",
        killer="broker/test_trouble.py::test_a_clock_set_back_neither_pauses_nor_rests_an_account_for_long",
    ),
    mutant(
        "no jitter",
        BACKOFF,
        "(0.5 + jitter / 2)",
        "1.0",
        killer="domain/test_backoff.py::test_jitter_takes_off_up_to_half[0]",
    ),
    mutant(
        "whoever the issuer sends away comes back with all the others",
        BACKOFF,
        "(1 + jitter / 10)",
        "1.0",
        killer="domain/test_backoff.py::test_callers_sent_away_together_do_not_come_back_together",
    ),
    mutant(
        "Retry-After without a cap",
        BACKOFF,
        "min(at_least, RETRY_AFTER_CAP)",
        "at_least",
        killer="domain/test_backoff.py::test_no_pause_of_ours_is_longer_than_the_longest",
    ),
    mutant(
        "as many calls at once as there are accounts",
        ISSUER,
        "asyncio.Semaphore(_CALLS)",
        "asyncio.Semaphore(_CALLS * 1000)",
        killer="issuer/test_issuer_connection.py::test_no_more_than_32_calls_at_a_time",
    ),
    mutant(
        "I4: redirects are followed",
        ISSUER,
        "follow_redirects=False",
        "follow_redirects=True",
        killer="issuer/test_issuer_outcomes.py::test_a_redirect_is_an_answer_and_its_target_gets_nothing[307]",
    ),
    mutant(
        "I4: bytes linger in the kernel",
        ISSUER,
        "options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _LINGER_MS))",
        "pass",
        killer="issuer/test_issuer_connection.py::test_the_kernel_gives_up_on_bytes_that_nobody_acknowledges",
    ),
)

# -- at rest ---------------------------------------------------------------------------------------------------------

REST: Final = (
    mutant(
        "I2: commits are told before they are durable",
        SQLITE,
        '"synchronous = FULL",',
        '"synchronous = NORMAL",',
        killer="power/test_power_loss.py::test_nothing_that_was_acknowledged_is_lost[1]",
    ),
    mutant(
        "a rollback journal in the place of the log",
        SQLITE,
        '_WAL = "journal_mode = WAL"',
        '_WAL = "journal_mode = DELETE"',
        killer="store/test_sqlite.py::test_every_pooled_connection_is_durable_and_careful",
    ),
    mutant(
        "whoever will write begins as a reader",
        SQLITE,
        'WRITE = {"sqlite_begin": "IMMEDIATE"}',
        'WRITE = {"sqlite_begin": "DEFERRED"}',
        killer="store/test_sqlite.py::test_a_second_writer_waits_its_turn[install]",
    ),
    mutant(
        "an older token opens beside a newer generation",
        VAULT,
        "+ self.generation.to_bytes(8)",
        "",
        killer="store/test_vault.py::test_a_value_that_was_moved_is_refused[newer generation]",
    ),
    mutant(
        "generations begin anew with a login",
        STORE,
        "generation=stored.generation + 1 if stored else 1)",
        "generation=1)",
        killer="store/test_install.py::test_generations_go_on_after_a_logout[sqlite]",
    ),
)

# -- what is elsewhere, stopped, or came back from a backup ------------------------------------------------------------

APART: Final = (
    mutant(
        "I9: a restored copy is like any other",
        STORE,
        "if found.generation >= highest:",
        "if True:",
        killer="broker/test_apart.py::test_a_restored_copy_is_not_refreshed",
    ),
    mutant(
        "I9: what has moved on meanwhile is taken for restored",
        STORE,
        "if now is None or now.login_id != found.login_id or now.generation >= highest:",
        "if now is None:",
        killer="broker/test_apart.py::test_a_row_that_moves_on_while_it_is_judged_is_not_taken_for_an_old_one",
    ),
    mutant(
        "I9: what comes out of a backup is refreshed",
        CREDENTIAL,
        'waits = replace(kept, state="restored",',
        'waits = replace(kept, state="active",',
        killer="store/test_backup.py::test_a_restored_login_is_served_and_never_refreshed[sqlite]",
    ),
    mutant(
        "I9: what is known to be spent is confirmed",
        BACKUP,
        'if _was_spent(present) or (present.state in ("active", "restored") and self._is_spent(present)):',
        "if _was_spent(present):",
        killer="store/test_backup.py::test_the_record_speaks_up_when_it_is_confirmed_too[sqlite]",
    ),
    mutant(
        "I1: a backup forgets what was sent",
        CREDENTIAL,
        'state="restored", uncertain_since=since,',
        'state="restored", sends=0, uncertain_since=None,',
        killer="store/test_backup.py::test_a_send_that_was_under_way_still_counts_when_it_is_confirmed[sqlite]",
    ),
    mutant(
        "a client key that somebody has widened comes out of a backup",
        BACKUP,
        "hmac.compare_digest(_mac(theirs, kind, line.row), line.mac) and ",
        "",
        killer="store/test_backup.py::test_client_keys_come_back_only_as_they_were[sqlite]",
    ),
    mutant(
        "I8: an owner elsewhere is taken for dead",
        OWNER,
        'return "dead" if self._all_here else "unknown"',
        'return "dead"',
        killer="broker/test_far.py::test_an_owner_elsewhere_who_stays_silent_leaves_it_uncertain",
    ),
    mutant(
        "I8: the retry after an owner elsewhere does not wait for the end of the token",
        REFRESHER,
        "late = max(now, credential.expires_at) + QUARANTINE",
        "late = over",
        killer="broker/test_far.py::test_he_may_live_so_the_retry_waits_until_the_token_has_ended",
    ),
    mutant(
        "I3: who wakes after his time begins to send",
        ISSUER,
        "if self._boot() > self.deadline:",
        "if False:",
        killer="issuer/test_issuer_stopped.py::test_a_process_that_wakes_after_its_time_limit_does_not_begin_to_send",
    ),
    mutant(
        "I4: who wakes after his time has half a second for his answer",
        ISSUER,
        "_LAST_LOOK + min(max(0.0, self._boot() - deadline), self.timeout)",
        "_LAST_LOOK",
        killer="simulation/test_found.py::test_what_a_stopped_process_sends_on_waking_gets_time_for_its_answer",
    ),
    mutant(
        "a rescue file is not looked for",
        REFRESHER,
        "if after is not None and not await self._recovered():",
        "if after is not None:",
        killer="broker/test_apart.py::test_who_finds_a_dead_owners_claim_looks_for_a_rescue_file_first",
    ),
    mutant(
        "a token does not age while its clock is set back",
        BROKER,
        "return aged if now < credential.expires_at <= aged else now",
        "return now",
        killer="broker/test_far.py::test_a_token_that_was_seen_to_age_is_not_served_beyond_its_age[-10]",
    ),
)

# -- another encryption key ------------------------------------------------------------------------------------------

ANOTHER_KEY: Final = (
    mutant(
        "a database is opened with a key that it is not sealed with",
        DATABASE,
        "vault.name_with(vault.open(kept, FINGERPRINTS))",
        "vault.name_with(vault.open(kept, FINGERPRINTS) if vault.key_of(kept) else vault.first.fingerprints)",
        killer="store/test_keys.py::test_with_another_key_a_used_database_is_refused_and_not_changed",
    ),
    mutant(
        "I1: fingerprints change with the encryption key",
        DATABASE,
        "vault.name_with(vault.open(kept, FINGERPRINTS))",
        "vault.open(kept, FINGERPRINTS)",
        killer="store/test_rekey.py::test_the_token_that_a_login_began_with_is_known_by_its_name_ever_after[sqlite]",
    ),
    mutant(
        "everybody seals with the first key of his own source",
        DATABASE,
        "return key or self._vault.first",
        "return self._vault.first",
        killer="store/test_rekey.py::test_a_new_key_seals_nothing_before_it_was_gone_over_to[sqlite]",
    ),
    mutant(
        "the key is replaced under those who are writing",
        DATABASE,
        ".where(IS_FINGERPRINTS).with_for_update(read=True)",
        ".where(IS_FINGERPRINTS)",
        killer="store/test_rekey.py::test_nothing_is_sealed_with_the_old_key_after_the_new_one_is_in_use[postgresql]",
    ),
    mutant(
        "I6: a pair stored meanwhile is written over by the old one, sealed anew",
        REKEY,
        "guard = [_NAMES[table] == name, *_is_as_read(table, row)]",
        "guard = [_NAMES[table] == name]",
        killer="store/test_rekey.py::"
        "test_a_pair_stored_between_the_reading_and_the_writing_of_its_row_is_not_written_over[sqlite]",
    ),
    mutant(
        "old bytes are sealed for another generation",
        REKEY,
        '(*SEALED_COLUMNS[table], *(["generation"] if table is CredentialRow else []))',
        "SEALED_COLUMNS[table]",
        killer="store/test_rekey.py::test_the_old_bytes_under_another_generation_are_not_sealed_for_it[sqlite]",
    ),
    mutant(
        "the old key goes while something may be left under it",
        REKEY,
        "if None not in outcomes:",
        "if outcomes is not None:",
        killer="store/test_rekey.py::"
        "test_a_row_that_somebody_was_faster_with_is_looked_at_again_before_the_old_key_goes[sqlite]",
    ),
    mutant(
        "rescue files are left under the old key",
        REKEY,
        "outcomes += self._rescue.seal_anew(self._vault, key) if self._rescue else []",
        "",
        killer="store/test_rekey.py::test_a_rescued_pair_is_stored_by_who_has_only_the_new_key[sqlite]",
    ),
    mutant(
        "who comes late goes back to a key that has left its file",
        REKEY,
        "first = Key(self._keys.read()[0])",
        "first = self._vault.first",
        killer="store/test_rekey.py::test_who_comes_late_does_not_go_back_to_a_key_that_has_left_the_file[sqlite]",
    ),
    mutant(
        "two who replace the key at once make two",
        KEYS,
        "            if Key(keys[0]).head != used:\n                return\n",
        "",
        killer="store/test_rekey.py::test_a_key_is_made_once_for_all_who_want_it_replaced",
    ),
    mutant(
        "an old key goes though a newer one is being gone over to",
        KEYS,
        "if Key(first).head != used or not others:",
        "if not others:",
        killer="store/test_rekey.py::test_old_keys_stay_while_somebody_goes_over_to_a_newer_one",
    ),
    mutant(
        "the old key is thrown away",
        KEYS,
        'create_private(self._own.with_name(f"{self._own.name}.{Key(old).id.hex()}.old"), _lines(old))',
        "pass",
        killer="store/test_rekey.py::test_a_backup_from_before_opens_again_with_the_old_key_put_back[sqlite]",
    ),
    mutant(
        "who cannot open a login takes it from who can",
        LOGINS,
        "        if self._login(*conditions) is None:\n            return None\n",
        "",
        killer="store/test_logins.py::test_a_login_begun_with_another_key_is_nobodys[sqlite]",
    ),
)

# -- a login that is given away --------------------------------------------------------------------------------------

GIVEN_AWAY: Final = (
    mutant(
        "I1: what is being sent is given away",
        CREDENTIAL,
        "        and credential.attempt is None\n        and credential.sends == 0\n",
        "",
        killer="store/test_releases.py::test_what_is_being_sent_is_not_released[sqlite]",
    ),
    mutant(
        "I1: what may be spent is given away",
        CREDENTIAL,
        "        and credential.sends == 0\n        and credential.uncertain_since is None\n",
        "",
        killer="web/test_export.py::test_what_may_be_spent_is_refused_and_stays_as_it_is",
    ),
    mutant(
        "I1: a refresh that is under way is not waited for",
        "broker/releases.py",
        "while found is not None and found.state",
        "while found is None and found.state",
        killer="web/test_export.py::test_a_refresh_that_is_under_way_ends_before",
    ),
    mutant(
        "I1: given away, and still ours",
        RELEASES,
        "state_columns(released(before), None)",
        "state_columns(before, None)",
        killer="store/test_releases.py::test_nobody_claims_it_any_more[sqlite]",
    ),
    mutant(
        "I1: what another account holds by now is given away again",
        RELEASES,
        "self._refuse_if_held(connection, self._vault.fingerprint(before.refresh_token), account)",
        "pass",
        killer="store/test_releases.py::test_it_is_not_given_again_once_another_account_holds_it[sqlite]",
    ),
    mutant(
        "I9: a copy of the database from before is refreshed",
        RELEASES,
        "before.generation + 1)",
        "before.generation)",
        killer="web/test_export.py::test_a_restored_copy_from_before_is_not_refreshed_here",
    ),
    mutant(
        "a backup gives away again what was given away by then",
        CREDENTIAL,
        '    if kept.state == "logged_out":\n        return logged_out(kept)\n',
        "",
        killer="web/test_export.py::test_a_backup_does_not_bring_it_back",
    ),
    mutant(
        "a logout revokes what is somebody else's",
        BROKER,
        "if before and not is_released(before) else None",
        "if before else None",
        killer="web/test_export.py::test_a_logout_of_it_forgets_it_and_revokes_nothing",
    ),
    mutant(
        "what was given away is served from memory",
        BROKER,
        "        self._warm.pop(account, None)\n",
        "        pass\n",
        killer="web/test_export.py::test_memory_serves_nothing_of_it_when_the_database_is_gone",
    ),
    mutant(
        "a word that it has arrived erases a later one",
        RELEASES,
        " or before.generation != generation",
        "",
        killer="store/test_releases.py::test_another_release_is_left_alone[sqlite-0]",
    ),
)

MUTANTS: Final = (*NAMED, *CLAIM, *OUTCOME, *UNKNOWN, *MANNERS, *REST, *APART, *ANOTHER_KEY, *GIVEN_AWAY)
