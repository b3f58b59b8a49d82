//! The promises of `sessiond::store`, held against every store.
//!
//! Each promise is written once, as a function of a freshly opened store, and runs as a test of its own for each store that a
//! line at the end of this file names: `memory::an_evicted_session_is_dead`. The first argument of a promise is the store, open
//! twice: writes go in through `here`, and what was promised is read through `there`, as another process sees it.

mod checking;
mod copy;
mod creating;
mod destroying;
mod listing;
mod model;
mod pending;
mod publishing;
mod revoking;
mod rotating;
mod touching;
mod users;

/// Runs promises as tests against the stores that a function opens.
macro_rules! promises {
    ($open:path: $($file:ident { $($promise:ident)* })*) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                super::$file::$promise($open().await).await;
            }
        )*)*
    };
}

/// Every promise of `SessionStore`. A promise that is not listed here is dead code, and the compiler says so.
macro_rules! session_promises {
    ($open:path) => {
        promises! { $open:
            checking {
                a_check_finds_what_create_stored_and_nothing_else
                no_session_is_found_under_another_digest
                s_08_a_session_ends_at_the_instant_of_its_idle_expiry
                s_09_a_session_ends_at_the_instant_of_its_absolute_expiry
                s_09_touches_do_not_move_the_absolute_expiry
                a_get_returns_every_field
                s_85_a_session_is_kept_to_the_letter
                the_store_answers_a_ping
            }
            touching {
                s_08_a_touch_extends_the_idle_expiry
                s_10_a_touch_is_written_within_half_of_the_slack
                a_touch_never_lowers_what_is_noted
                s_13_a_touch_revives_no_destroyed_session
                s_13_a_touch_revives_no_revoked_session
                s_08_a_touch_revives_no_expired_session
                a_touch_inserts_nothing
                a_touch_with_an_old_token_counts_for_its_session
                many_touches_are_all_written
            }
            creating {
                s_07_a_created_session_replaces_another_in_the_same_commit
                s_07_fifty_logins_that_replace_one_token_all_live_and_it_dies
                s_07_an_old_token_in_its_grace_is_replaced_with_its_session
                another_users_session_can_be_replaced
                replacing_what_does_not_live_changes_nothing_else
                s_19_the_oldest_sessions_make_room
                s_19_fifty_parallel_logins_leave_as_many_sessions_as_the_cap
                s_19_the_cap_makes_room_for_a_session_whose_clock_was_behind
                s_19_a_replaced_session_makes_room_first
                s_19_expired_sessions_do_not_count_against_the_cap
                s_19_the_cap_of_one_user_leaves_others_alone
                s_19_a_lowered_cap_evicts_as_many_as_exceed_it
                s_15_no_session_is_created_once_the_epoch_has_moved
                s_17_no_session_is_created_once_everyones_epoch_has_moved
                a_creation_that_is_refused_changes_nothing
                s_15_revoking_wins_against_a_hundred_parallel_logins
                a_creation_that_nobody_waits_for_happens_whole_or_not_at_all
            }
            rotating {
                s_07_a_rotated_session_lives_under_its_new_token_only
                a_rotation_keeps_everything_else
                a_rotation_notes_when_the_user_authenticated
                an_old_token_works_until_the_end_of_its_grace
                a_second_rotation_ends_the_first_ones_grace
                an_old_token_cannot_rotate
                a_rotation_does_not_touch
                of_two_parallel_rotations_one_finds_the_session
                s_13_destroying_by_a_token_ends_the_session_whatever_rotates_beside_it
                s_07_replacing_a_token_ends_the_session_whatever_rotates_beside_it
                what_does_not_live_cannot_be_rotated
                s_13_no_token_outlives_its_session
                s_13_no_rotated_session_outlives_a_revocation
                a_rotated_session_still_has_its_place_in_the_cap
            }
            destroying {
                s_13_after_destroy_no_check_succeeds
                s_13_a_session_is_destroyed_by_its_id
                s_13_a_session_is_destroyed_by_an_old_token_in_its_grace
                an_old_token_past_its_grace_destroys_nothing
                s_14_destroying_again_says_that_there_was_none
                of_parallel_destroys_exactly_one_finds_the_session
                s_14_an_expired_session_cannot_be_destroyed
                a_destroyed_session_frees_its_place_in_the_cap
                destroying_one_session_leaves_the_others
            }
            revoking {
                s_17_revoking_a_user_ends_all_their_sessions_and_no_other
                s_16_the_excepted_session_is_spared
                s_16_the_spared_session_ends_with_the_next_revocation
                the_spared_session_rotates_as_before
                the_session_of_another_user_spares_nothing
                a_dead_session_spares_nothing
                revoking_counts_living_sessions_only
                the_epoch_moves_with_every_revocation_and_with_nothing_else
                a_session_created_after_a_revocation_lives
                s_17_revoking_everyone_ends_every_session
                sessions_created_after_everyones_were_revoked_live
                parallel_revocations_all_move_the_epoch
                s_13_parallel_checks_never_see_a_session_come_back
            }
            listing {
                s_18_a_list_has_the_living_sessions_newest_first
                s_18_a_list_continues_before_an_id
                a_list_never_has_what_expired_or_was_revoked
                a_list_has_nobody_elses_sessions
                a_count_is_of_living_sessions
                a_sweep_changes_no_answer
                a_sweep_frees_no_more_than_its_limit_and_in_the_end_everything
                a_sweep_leaves_what_a_revocation_said_in_force
                parallel_sweeps_free_each_session_once
                a_scan_gives_every_living_session_and_no_other
            }
            publishing {
                s_13_a_destroyed_session_is_told
                a_rotation_is_told
                a_replaced_session_is_told
                an_evicted_session_is_told
                s_17_a_revoked_user_is_told_with_the_session_that_was_spared
                an_exception_that_spared_nothing_is_not_told
                s_17_everyones_revocation_is_told
                a_refused_creation_is_not_told
                what_many_callers_end_at_once_is_told_completely
                a_cursor_is_worth_the_same_in_every_process
                the_log_goes_on_being_complete
            }
            model {
                random_histories_have_the_answers_of_the_model
            }
        }
    };
}

/// Every promise of `UserStore`.
macro_rules! user_promises {
    ($open:path) => {
        promises! { $open:
            users {
                an_inserted_user_is_found_by_id_and_by_email
                an_unknown_user_is_not_found
                s_85_a_user_is_kept_to_the_letter
                an_email_is_taken_once
                s_41_of_fifty_parallel_inserts_with_one_email_one_succeeds
                an_id_is_taken_once
                users_are_listed_in_the_order_of_their_ids
                an_update_replaces_everything_but_the_password
                an_update_that_expects_another_version_changes_nothing
                of_two_parallel_updates_one_wins
                an_update_to_a_taken_email_changes_nothing
                an_update_frees_the_former_email
                a_user_may_keep_their_email_in_another_spelling
                a_missing_user_is_not_updated
                a_password_is_replaced_whatever_it_was
                s_47_a_password_is_replaced_only_if_it_is_still_the_expected_one
                of_parallel_password_changes_from_one_hash_one_wins
                a_new_password_leaves_the_rest_of_the_user
                a_missing_user_gets_no_password
                a_deleted_user_is_gone_and_their_email_is_free
                of_parallel_deletes_one_finds_the_user
                users_are_counted
                the_user_store_answers_a_ping
            }
            pending {
                a_recorded_change_is_seen_and_changes_nothing_else
                an_applied_change_makes_the_user_what_it_says
                a_disabled_user_is_not_disabled_anew
                a_user_has_one_pending_change_at_a_time
                s_47_a_change_is_recorded_for_the_expected_hash_only
                other_changes_of_the_user_leave_what_is_pending
                nothing_is_pending_for_a_deleted_user
            }
        }
    };
}

/// Holds a whole store to its promises: `users` and `sessions` are functions that open a store of their own for each test.
macro_rules! store_contract {
    ($store:ident, users: $users:path, sessions: $sessions:path) => {
        mod $store {
            user_promises!($users);
            session_promises!($sessions);
        }
    };
    ($store:ident, sessions: $sessions:path) => {
        mod $store {
            session_promises!($sessions);
        }
    };
}

store_contract!(memory, users: testkit::stores::memory::users, sessions: testkit::stores::memory::sessions);
store_contract!(embedded, users: testkit::stores::embedded::users, sessions: testkit::stores::embedded::sessions);
store_contract!(postgres, users: testkit::stores::postgres::users, sessions: testkit::stores::postgres::sessions);
store_contract!(redis, sessions: testkit::stores::redis::single);
store_contract!(redis_cluster, sessions: testkit::stores::redis::cluster);
