//! One request for many sessions: the same operation on each, and a result for each.

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all, ready};
use tidegate::bus::{GateError, SessionOp, SessionReply};
use tidegate_protocol::SessionId;
use tokio::task;

use super::replies::ReplyTo;
use super::{Server, may_wait};
use crate::wire::session;

impl Server {
    /// Each session gets its operation in the order in which they are named, and each what
    /// comes for it later after that.
    pub(super) async fn many(&self, ids: Vec<SessionId>, op: SessionOp, to: ReplyTo) {
        // Each counts by itself: a thousand binds are a thousand binds.
        let permits = if may_wait(&op) { ids.len() } else { 1 };
        let Some(permit) = self.permits(permits) else {
            return self.overloaded(to).await;
        };
        let begun: Vec<BoxFuture<'static, Result<SessionReply, GateError>>> = ids
            .into_iter()
            .map(|id| {
                let mut done = self.served.endpoint.session(id, op.clone());
                match task::unconstrained(&mut done).now_or_never() {
                    Some(result) => ready(result).boxed(),
                    None => done,
                }
            })
            .collect();
        let done = join_all(begun).map(|results| session::encode_results(&results));
        self.finish(done.boxed(), to, Some(permit)).await;
    }
}
