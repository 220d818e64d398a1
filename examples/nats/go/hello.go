// A Tidegate service in Go: a plain NATS micro service, as docs/nats.md has it.
package main

import (
	"encoding/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"os"
	"strings"
	"time"
)

func main() {
	nc, _ := nats.Connect(os.Getenv("NATS_URL"), nats.RetryOnFailedConnect(true))
	service, _ := micro.AddService(nc, micro.Config{Name: "hello", Version: "1.0.0"})
	endpoint := func(method string, handler micro.HandlerFunc) {
		service.AddEndpoint(method[8:], handler, micro.WithEndpointSubject("tidegate."+method))
	}
	asking := func(method, ask, body, topic string) { // is served by asking a gate
		endpoint(method, func(r micro.Request) {
			var session struct{ ID, Gate string }
			json.Unmarshal([]byte(r.Headers().Get("Tidegate-Session")), &session)
			text, _ := json.Marshal(string(r.Data()))
			fill := strings.NewReplacer("GATE", session.Gate, "SESSION", session.ID, "TEXT", string(text), "BODY", string(r.Data()))
			request := &nats.Msg{Subject: fill.Replace("tidegate." + ask), Data: []byte(fill.Replace(body)), Header: nats.Header{"Tidegate-Topic": {topic}}}
			if reply, err := nc.RequestMsg(request, 10*time.Second); err != nil {
				r.Error("1001", err.Error(), nil)
			} else if refused := reply.Header.Get("Tidegate-Error"); refused != "" {
				r.Error("1001", refused, nil)
			} else {
				r.Respond(reply.Data)
			}
		})
	}
	endpoint("*.hello.echo", func(r micro.Request) { r.Respond(r.Data()) })
	asking("g.hello.login", "gate.GATE.bind.SESSION", `{"user":TEXT}`, "") // binds a user to the session
	asking("c.hello.note", "gate.GATE.set.SESSION", `{"note":TEXT}`, "")   // keeps it in the session, answers that
	asking("c.hello.tell", "gate.GATE.send.SESSION", "BODY", "hello.told") // pushes to the session
	asking("c.hello.shout", "any.broadcast", "BODY", "hello.shouted")      // to all; answers how many got it
	asking("c.hello.bye", "gate.GATE.close.SESSION", "", "")
	endpoint("e.hello.disconnected", func(r micro.Request) { println("disconnected", string(r.Data())) })
	select {}
}
