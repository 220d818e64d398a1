//! What may be a method: async functions, by the number of their arguments.

use std::future::Future;
use std::marker::PhantomData;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::answer::IntoAnswer;
use super::extract::{CallContext, FromCall, Requirements};
use crate::bus::CallError;

/// What running a handler gives.
pub(super) type Outcome = Result<Bytes, CallError>;

/// An async function of up to six arguments taken from the call.
///
/// Its future is `Send + 'static`. It is polled once in place, on the thread that
/// brought the call; when it is not ready then, it becomes a task of its own on that
/// thread's runtime, and a client's disconnect does not cancel it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a handler",
    note = "a handler is an async fn of up to six arguments that each implement FromCall, \
            whose result implements IntoAnswer and whose future is Send"
)]
pub trait Handler<Args>: Send + Sync + 'static {
    #[doc(hidden)]
    fn start(&self, call: &CallContext<'_>) -> Result<BoxFuture<'static, Outcome>, CallError>;
    #[doc(hidden)]
    fn requires(&self, needs: &mut Requirements);
}

macro_rules! handlers {
    ($($arg:ident)*) => {
        impl<F, Fut, $($arg,)*> Handler<($($arg,)*)> for F
        where
            F: Fn($($arg),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output: IntoAnswer> + Send + 'static,
            $($arg: FromCall,)*
        {
            #[allow(unused_variables, reason = "a handler without arguments uses none")]
            fn start(
                &self,
                call: &CallContext<'_>,
            ) -> Result<BoxFuture<'static, Outcome>, CallError> {
                let future = self($($arg::from_call(call)?),*);
                Ok(Box::pin(async move { future.await.into_answer() }))
            }

            #[allow(unused_variables, reason = "a handler without arguments uses none")]
            fn requires(&self, needs: &mut Requirements) {
                $($arg::requires(needs);)*
            }
        }
    };
}

handlers!();
handlers!(A);
handlers!(A B);
handlers!(A B C);
handlers!(A B C D);
handlers!(A B C D E);
handlers!(A B C D E G);

/// A handler whose arguments are no longer told by its type.
pub(super) trait AnyHandler: Send + Sync {
    fn start(&self, call: &CallContext<'_>) -> Result<BoxFuture<'static, Outcome>, CallError>;
    fn requires(&self, needs: &mut Requirements);
}

struct Erased<H, Args>(H, PhantomData<fn(Args)>);

impl<H: Handler<Args>, Args> AnyHandler for Erased<H, Args> {
    fn start(&self, call: &CallContext<'_>) -> Result<BoxFuture<'static, Outcome>, CallError> {
        self.0.start(call)
    }

    fn requires(&self, needs: &mut Requirements) {
        self.0.requires(needs);
    }
}

pub(super) fn erase<Args: 'static>(handler: impl Handler<Args>) -> Box<dyn AnyHandler> {
    Box::new(Erased(handler, PhantomData))
}
