//! The service end to end: real gRPC over real sockets, two processes' worth of it over one store, for every store.
//!
//! Each test is written once, as a function of a freshly started [`testkit::service::Service`], and runs for each store that a line at the
//! end of this file names.

mod bad_input;
mod bulk;
mod errors;
mod frames;
mod logging_in;
mod passwords;
mod protocol;
mod remote_store;
mod sessions;
mod users;
mod waiting;
mod watching;

/// Runs every test against the service over the stores that two functions open. A test that is not listed is dead code, and the
/// compiler says so.
macro_rules! service_over {
    ($store:ident, users: $users:path, sessions: $sessions:path) => {
        service_over!($store, users: $users, sessions: $sessions, has_fast_path: true);
    };
    ($store:ident, users: $users:path, sessions: $sessions:path, has_fast_path: $has_fast_path:literal) => {
        mod $store {
            service_over! { @tests $users, $sessions, $has_fast_path:
                logging_in {
                    s_01_every_log_in_has_a_token_of_its_own
                    s_04_a_proposed_token_is_never_adopted
                    s_07_a_log_in_ends_the_session_that_it_replaces
                    s_07_fifty_parallel_log_ins_with_one_old_token
                    s_15_disabling_wins_against_a_hundred_log_ins
                    s_19_the_cap_holds_under_parallel_log_ins
                    s_45_nobody_can_log_in_to_a_fresh_service
                    s_59_every_failed_log_in_has_one_answer
                    a_caller_vouches_for_a_user
                    time_outs_may_be_shortened_only
                    what_was_stored_with_a_session_comes_back
                    an_email_is_one_however_it_is_spelled
                }
                sessions {
                    s_03_every_dead_token_has_one_answer
                    s_08_an_idle_session_expires
                    s_08_activity_keeps_a_session_alive
                    s_09_no_activity_extends_the_lifetime
                    s_13_after_destroy_no_process_finds_the_session
                    s_14_destroying_is_idempotent_and_no_oracle
                    s_17_all_sessions_of_a_user_or_of_everyone_can_be_revoked
                    s_18_sessions_are_listed_without_their_tokens
                    s_21_callers_can_demand_a_recent_log_in
                    s_62_a_check_tells_no_more_than_it_must
                    lists_are_paged
                    a_session_is_rotated_with_and_without_grace
                    s_68_interleaved_checks_always_name_the_owner
                    a_check_has_the_same_response_on_both_paths
                }
                passwords {
                    s_16_a_changed_password_ends_the_other_sessions
                    s_36_a_password_that_cannot_be_one_costs_no_hash
                    s_38_a_password_is_compared_exactly
                    s_39_every_byte_of_a_long_password_counts
                    s_40_nul_does_not_cut_a_password
                    s_41_both_spellings_of_a_character_are_one_password
                    s_42_a_common_password_is_refused_with_a_reason
                    s_47_an_imported_hash_is_replaced_at_log_in
                    s_47_a_rehash_never_undoes_a_password_change
                    s_51_a_malformed_hash_logs_nobody_in
                    an_administrator_sets_a_password
                    s_20_a_wrong_current_password_changes_nothing
                }
                users {
                    a_user_lives_from_creation_to_deletion
                    s_15_a_deleted_users_sessions_die
                    s_15_a_half_disabled_users_session_is_dead_to_all_once_it_is_to_one
                    an_email_belongs_to_one_user
                    an_update_names_what_it_changes
                    a_lost_update_is_refused
                    users_are_listed_in_pages
                    there_are_stats
                }
                bad_input {
                    s_84_every_bad_field_of_a_session_call_is_named
                    s_84_every_bad_field_of_a_user_call_is_named
                    s_83_a_message_is_bounded
                    s_85_strange_text_comes_back_to_the_letter
                    s_88_strange_text_stays_out_of_headers
                }
                bulk {
                    a_batch_answers_each_token_in_order
                    a_batch_is_bounded
                    a_batch_has_the_same_response_on_both_paths
                    a_stream_answers_message_by_message
                }
                watching {
                    a_watcher_without_a_cursor_is_told_to_forget_first
                    s_13_every_end_of_a_session_is_told
                    a_watcher_that_comes_back_is_told_what_it_missed
                    heartbeats_say_how_far_the_stream_is_complete
                    a_wrong_cursor_is_refused
                }
                errors {
                    s_86_a_deadline_that_has_passed_is_answered_as_such
                    s_94_every_error_has_a_reason_from_the_list
                    health_says_that_the_service_serves
                    reflection_describes_the_contract_in_both_versions
                    an_unknown_method_is_unimplemented
                }
            }
        }
    };
    (@tests $users:path, $sessions:path, $has_fast_path:literal: $($file:ident { $($test:ident)* })*) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let (users, sessions) = ($users().await, $sessions().await);
                let service = testkit::service::Service::start(users, sessions, $has_fast_path).await;
                super::$file::$test(service).await;
            }
        )*)*
    };
}

service_over!(memory, users: testkit::stores::memory::users, sessions: testkit::stores::memory::sessions);
service_over!(embedded, users: testkit::stores::embedded::users, sessions: testkit::stores::embedded::sessions);
service_over!(postgres, users: testkit::stores::postgres::users, sessions: testkit::stores::postgres::sessions);
service_over!(redis, users: testkit::stores::memory::users, sessions: testkit::stores::redis::single);
service_over!(redis_cluster, users: testkit::stores::memory::users, sessions: testkit::stores::redis::cluster);

// Without the fast path, over one store that answers at once and one that has to be waited for: it knows no other difference.
service_over!(memory_by_generated_code, users: testkit::stores::memory::users, sessions: testkit::stores::memory::sessions, has_fast_path: false);
service_over!(redis_by_generated_code, users: testkit::stores::memory::users, sessions: testkit::stores::redis::single, has_fast_path: false);
