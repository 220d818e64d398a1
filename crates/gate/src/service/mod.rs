//! Services: the kit to write them with, and their view of sessions and gates.
//!
//! A service is a set of methods under a name. A method is an async function whose
//! arguments are taken from the call ([`FromCall`]) and whose result becomes the answer
//! ([`IntoAnswer`]):
//!
//! ```
//! use std::sync::Arc;
//! use tidegate::bus::OpenTo::Guests;
//! use tidegate::bus::local::LocalBus;
//! use tidegate::service::{Service, Session};
//!
//! async fn greet(session: Session, name: String) -> String {
//!     format!("hello {name} at {}", session.ip())
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let bus = Arc::new(LocalBus::new());
//! let lobby = Service::new("lobby").request("greet", greet).open_to(Guests);
//! let running = lobby.register(bus).await?;
//! running.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Layout
//!
//! - [`builder`]: [`Service`], and what is checked before it runs.
//! - [`handler`]: what may be a method; [`extract`]: its arguments; [`answer`]: its result.
//! - `runtime`, `lanes`: how calls are run, and one session's calls in their order.
//! - [`running`]: a registered service, and how it stops.
//! - [`session`]: a session as a service sees it; [`clients`]: sessions by id, users,
//!   groups, everyone; [`services`]: calls to other services.

use std::time::Duration;

pub mod answer;
pub mod builder;
pub mod clients;
pub mod extract;
pub mod handler;
mod lanes;
pub mod running;
mod runtime;
pub mod services;
pub mod session;

pub use answer::IntoAnswer;
pub use builder::{BuildError, BuiltService, RegisterError, Service};
pub use clients::{Clients, SessionHandle};
pub use extract::{CallContext, CallInfo, FromCall, Json, Previous, Requirements, State};
pub use handler::Handler;
pub use running::RunningService;
pub use services::Services;
pub use session::Session;

/// Calls of one session that wait for one before them, per service instance; further
/// ones are refused as overloaded.
pub const MAX_WAITING: usize = 1024;

/// How long [`RunningService::stop`] lets calls under way finish.
pub const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// How long [`Services`] wait for an answer.
pub const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// After how long an instance that is no longer heard of counts as gone.
pub const DEFAULT_TTL: Duration = Duration::from_secs(30);
