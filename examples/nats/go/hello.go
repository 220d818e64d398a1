package main // A Tidegate service in Go: a plain NATS micro service, as docs/nats.md has it.

import "encoding/json"
import "os"
import "strings"
import "time"
import "github.com/nats-io/nats.go"
import "github.com/nats-io/nats.go/micro"

func main() {
	nc, _ := nats.Connect(os.Getenv("NATS_URL"), nats.RetryOnFailedConnect(true))
	service, _ := micro.AddService(nc, micro.Config{Name: "hello", Version: "1.0.0"})
	serve := func(method string, handler micro.HandlerFunc) {
		service.AddEndpoint(method[8:], handler, micro.WithEndpointSubject("tidegate."+method))
	}
	ask := func(subject, body, topic string) micro.HandlerFunc { // a gate, and answer its reply
		return func(r micro.Request) {
			var session struct{ ID, Gate string }
			json.Unmarshal([]byte(r.Headers().Get("Tidegate-Session")), &session)
			text, _ := json.Marshal(string(r.Data()))
			fill := strings.NewReplacer("GATE", session.Gate, "SESSION", session.ID, "BODY", string(r.Data()), "TEXT", string(text)).Replace
			request := &nats.Msg{Subject: fill("tidegate." + subject), Data: []byte(fill(body)), Header: nats.Header{"Tidegate-Topic": {topic}}}
			if reply, err := nc.RequestMsg(request, 10*time.Second); err != nil {
				r.Error("1001", err.Error(), nil)
			} else if refused := reply.Header.Get("Tidegate-Error"); refused != "" {
				r.Error("1001", refused, nil)
			} else {
				r.Respond(reply.Data)
			}
		}
	}
	serve("*.hello.echo", func(r micro.Request) { r.Respond(r.Data()) })
	serve("g.hello.login", ask("gate.GATE.bind.SESSION", `{"user":TEXT}`, "")) // binds a user to the session
	serve("c.hello.note", ask("gate.GATE.set.SESSION", `{"note":TEXT}`, ""))   // keeps something in it
	serve("c.hello.tell", ask("gate.GATE.send.SESSION", "BODY", "hello.told")) // pushes to it, then answers
	serve("c.hello.shout", ask("any.broadcast", "BODY", "hello.shouted"))      // answers how many got it
	serve("c.hello.bye", ask("gate.GATE.close.SESSION", "", ""))
	serve("e.hello.disconnected", func(r micro.Request) { println("disconnected", string(r.Data())) })
	select {}
}
