//! A bus that is the one in its field `bus`, but for what a test writes itself.

/// The methods named, in an `impl Bus` beside `use tidegate::bus::*`: those of the field `bus`.
macro_rules! as_in_bus {
    ($($method:ident)*) => { $(as_in_bus! { @ $method })* };
    (@ call) => {
        fn call(&self, call: Call<'_>, responder: Responder) {
            self.bus.call(call, responder);
        }
    };
    (@ register) => {
        fn register(
            &self,
            instance: InstanceInfo,
            endpoint: std::sync::Arc<dyn Endpoint>,
        ) -> futures_util::future::BoxFuture<'static, Result<Registration, BusError>> {
            self.bus.register(instance, endpoint)
        }
    };
    (@ others) => {
        fn event(
            &self,
            to: EventTarget<'_>,
            session: std::sync::Arc<tidegate::Snapshot>,
            event: Event,
        ) {
            self.bus.event(to, session, event);
        }
        fn policy(&self, service: &str) -> Policy {
            self.bus.policy(service)
        }
        fn instances(
            &self,
            service: &str,
        ) -> futures_util::future::BoxFuture<'static, Result<Vec<InstanceInfo>, BusError>> {
            self.bus.instances(service)
        }
        fn instance_up(
            &self,
            service: &str,
            instance: &tidegate::protocol::InstanceId,
        ) -> futures_util::future::BoxFuture<'static, ()> {
            self.bus.instance_up(service, instance)
        }
        fn register_gate(
            &self,
            gate: GateInfo,
            endpoint: std::sync::Arc<dyn GateEndpoint>,
        ) -> futures_util::future::BoxFuture<'static, Result<Registration, BusError>> {
            self.bus.register_gate(gate, endpoint)
        }
        fn gates(
            &self,
        ) -> futures_util::future::BoxFuture<'static, Result<Vec<GateInfo>, BusError>> {
            self.bus.gates()
        }
        fn session(
            &self,
            gate: &tidegate::GateId,
            session: tidegate::SessionId,
            op: SessionOp,
        ) -> futures_util::future::BoxFuture<'static, Result<SessionReply, GateError>> {
            self.bus.session(gate, session, op)
        }
        fn every_gate(
            &self,
            request: GateRequest,
        ) -> futures_util::future::BoxFuture<'static, Result<GateReply, GateError>> {
            self.bus.every_gate(request)
        }
    };
}
