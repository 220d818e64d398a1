//! What every bus must do: gates, clients and services, with real sockets, on any bus.
//!
//! A bus gives a [`World`], and [`bus_suite!`] makes a test of each case. What is tested is
//! what users see, through two or three gates where it matters; what a bus does when its
//! servers fail is tested where the bus is.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "failing is what it is for"
)]
#![allow(missing_docs, reason = "the cases are named by what they show")]

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tidegate::bus::{Bus, LocalBus};

pub mod calls;
pub mod events;
pub mod groups;
pub mod instances;
pub mod logins;
pub mod sessions;
pub mod stage;
pub mod users;

/// A network of its own, empty at first.
pub trait World: Send + Sync + 'static {
    /// A bus of it, as another process would have it.
    fn bus(&self) -> BoxFuture<'_, Arc<dyn Bus>>;
}

/// The bus within one process: everybody has the same one.
#[derive(Default)]
pub struct LocalWorld(Arc<LocalBus>);

impl World for LocalWorld {
    fn bus(&self) -> BoxFuture<'_, Arc<dyn Bus>> {
        let bus: Arc<dyn Bus> = self.0.clone();
        Box::pin(async move { bus })
    }
}

/// Makes a test of each case. The argument is an async function that makes a new [`World`].
/// `with logins`: where logins are counted over all gates.
#[macro_export]
macro_rules! bus_suite {
    ($world:path) => {
        $crate::bus_suite! { $world;
            calls: answers_and_errors, one_way_packets_are_told_about, what_cannot_be_called,
                who_may_call, order_over_methods_and_login, services_call_services,
                bodies_of_all_sizes, many_clients_at_once, a_service_that_stops_drains;
            sessions: each_operation, refused_operations, send_then_close, sends_in_order,
                settings_of_all_kinds, the_end_is_told_to_all_who_served,
                a_session_that_is_gone, a_full_queue_is_told;
            events: started_and_left, dormant_and_resumed;
            instances: ids_are_unique, declarations_agree, load_is_shared, sticky_sessions,
                bound_by_a_service, dead_fail, dead_rebind, dead_hold;
            users: sent_to_wherever_they_are, closed_wherever_they_are, presence_of_many,
                gates_are_unique_and_listed;
            groups: members_on_all_gates, left_when_sessions_end, broadcast_to_all;
        }
    };
    ($world:path, with logins) => {
        $crate::bus_suite! { $world }
        $crate::bus_suite! { $world;
            logins: replaced_across_gates, refused_across_gates, devices_across_gates,
                races_have_one_winner;
        }
    };
    ($world:path; $($module:ident: $($case:ident),+;)+) => {
        $(mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let world = $world().await;
                    let case = $crate::$module::$case(&world);
                    let in_time = tokio::time::timeout($crate::stage::LONG, case).await;
                    assert!(in_time.is_ok(), "it hangs");
                }
            )+
        })+
    };
}
