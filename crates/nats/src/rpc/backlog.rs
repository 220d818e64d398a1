//! What has reached a connection and was not taken from it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_nats::Statistics;

/// Subscriptions of the connection.
const SUBSCRIPTIONS: u64 = 3;

/// Knows how many messages wait, though the client does not tell: it counts those that
/// arrived, and this those that were taken. A message that was dropped for want of room never
/// is taken.
#[derive(Debug)]
pub(super) struct Backlog {
    statistics: Arc<Statistics>,
    /// Of one subscription.
    capacity: u64,
    /// Messages served, and those that others took.
    taken: u64,
    /// Messages known to be dropped.
    lost: u64,
    /// What had arrived at the last look.
    before: Option<u64>,
}

impl Backlog {
    /// For a connection of which nobody else takes anything. What has arrived before, but for
    /// `waiting` messages, others have taken.
    pub(super) fn new(statistics: Arc<Statistics>, capacity: usize) -> Self {
        Self {
            taken: FENCES,
            statistics,
            capacity: capacity as u64,
            lost: 0,
            before: None,
        }
    }
}
