//! What comes on an open connection.

use std::sync::atomic::Ordering::Relaxed;

use tidegate_protocol::Packet;
use tidegate_protocol::extended::{Close, ErrorPacket, Refused as NotHeld, Taken};

use super::Task;
use super::ending::{Ending, Next};
use super::serve::{Course, OpenLink, Phase};
use crate::calls::Refused;
use crate::error::PacketError;
use crate::states::Event;
use crate::task::HIGH_WATER;

impl Task {
    /// Takes a packet of the gate. An error: the connection is of no use.
    pub(super) fn take(
        &mut self,
        packet: Packet,
        course: &mut Course,
        link: &mut OpenLink,
    ) -> Result<(), Ending> {
        self.shared.counters.received.fetch_add(1, Relaxed);
        let taken = match self.session.take(packet) {
            Ok(taken) => taken,
            Err(error) => {
                // What cannot be gone on with must not be asked for again.
                let unknown = self.session.give_up();
                self.lose(unknown);
                return Err(Ending::protocol(&error));
            }
        };
        let happenings = &self.shared.happenings;
        match taken {
            Taken::Packet(packet) => self.shared.arrived(packet),
            Taken::Error(error) => self.not_served(error),
            Taken::Gap(gap) => happenings.event(Event::Gap(gap)),
            // A gate that asks and does not read is not answered for ever.
            Taken::Reply(pong) if link.queued < 2 * HIGH_WATER => {
                self.control(&pong, course, link);
            }
            Taken::Reply(_) | Taken::Pong(_) | Taken::Nothing => {}
            Taken::Token(refused) => self.token(refused),
            Taken::Drain(drain) => {
                course.drain(&drain);
                happenings.event(Event::Draining(drain));
            }
            Taken::Close(close) => {
                said(close, course);
                return Ok(());
            }
        }
        self.owe_ack(course, link);
        Ok(())
    }

    fn not_served(&self, error: ErrorPacket) {
        let told = PacketError::new(error.code, error.message, Some(error.packet));
        let calls = &self.shared.calls;
        match calls.refused_packet(error.packet, &error.topic, &told) {
            Refused::Call => {}
            Refused::Late => {
                let late = &self.shared.counters.late_answers;
                late.fetch_add(1, Relaxed);
            }
            Refused::Other => self.shared.happenings.event(Event::NotServed {
                topic: error.topic,
                error: told,
            }),
        }
    }

    fn token(&self, refused: Option<NotHeld>) {
        if !self.session.is_resumable() {
            let event = Event::NotResumable(refused.map(Into::into));
            self.shared.happenings.event(event);
        }
    }
}

/// The gate has said its last word.
fn said(close: Close, course: &mut Course) {
    let mut ending = Ending::said(close);
    if let Phase::Closing { .. } = course.phase {
        // Whatever it invites to, this client is going.
        ending.next = Next::Stop;
    }
    course.over(ending);
}
