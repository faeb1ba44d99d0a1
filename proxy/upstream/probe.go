package upstream

import (
	"context"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/rpc"
)

// The questions about a member. Both need no permission.
var (
	statusHeader = mustHeader("/etcdserverpb.Maintenance/Status")
	healthHeader = mustHeader("/grpc.health.v1.Health/Check")
)

func mustHeader(path string) *lean.Header {
	h, err := lean.NewHeader(path)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return h
}

type empty struct{}

func (empty) Size() int                { return 0 }
func (empty) Append(dst []byte) []byte { return dst }

// verdict receives the answer of one question.
type verdict struct {
	judge func(body []byte, err error) string
	to    chan<- string
}

// Done implements lean.Completion.
func (v verdict) Done(body []byte, err error) { v.to <- v.judge(body, err) }

// watch asks c's member about itself until the connection is lost or the pool closed.
func (p *Pool) watch(ctx context.Context, l *lane, c *Conn) {
	t := p.cfg.Clock.NewTicker(p.cfg.ProbeInterval)
	defer t.Stop()
	silent := time.Duration(0) // how long nothing was answered
	for {
		began := p.cfg.Clock.Now()
		why, answered := p.probe(ctx, c)
		if ctx.Err() != nil || c.lean.Err() != nil {
			return
		}
		if answered {
			silent = 0
			c.heard.Add(1)
		} else if silent += p.cfg.Clock.Now().Sub(began); silent >= p.cfg.Silence {
			p.cfg.Log("the store's member has been silent for too long: closing the connection", "endpoint", l.endpoint, "silent", silent)
			return
		}
		select {
		case <-l.retired:
			why = "it is no endpoint any more"
		default:
		}
		if c.set(why == "") {
			if why == "" {
				p.cfg.Log("the store's member serves again", "endpoint", l.endpoint)
				p.announce()
			} else {
				p.cfg.Log("the store's member is set aside", "endpoint", l.endpoint, "reason", why)
			}
		}
		select {
		case <-t.C:
		case <-c.lean.Gone():
			return
		case <-ctx.Done():
			return
		}
	}
}

// probe asks and waits for the answers; why is empty when the member serves.
func (p *Pool) probe(ctx context.Context, c *Conn) (why string, answered bool) {
	answers := make(chan string, 2)
	var tickets []lean.Ticket
	for _, q := range []struct {
		h     *lean.Header
		judge func([]byte, error) string
	}{{statusHeader, judgeStatus}, {healthHeader, judgeHealth}} {
		t, err := c.Call(q.h, p.cfg.ProbeTimeout, empty{}, verdict{q.judge, answers})
		if err != nil {
			return err.Error(), false
		}
		tickets = append(tickets, t)
	}
	c.Kick()
	t := p.cfg.Clock.NewTimer(p.cfg.ProbeTimeout)
	defer t.Stop()
	for range tickets {
		select {
		case bad := <-answers:
			answered = true
			if why == "" {
				why = bad
			}
		case <-t.C:
			return "it does not answer", answered
		case <-c.lean.Gone():
			return "the connection is lost", answered
		case <-ctx.Done():
			return "the proxy is stopping", answered
		}
	}
	return why, answered
}

// The fields of etcdserverpb.StatusResponse that matter here.
const (
	statusLeader  = 4
	statusLearner = 10
)

// judgeStatus reads a StatusResponse. A member that refuses the question is left to serve: it answers.
func judgeStatus(body []byte, err error) string {
	if err != nil {
		return unavailable(err)
	}
	leader, learner := uint64(0), uint64(0)
	for len(body) > 0 {
		num, kind, n := protowire.ConsumeTag(body)
		if n < 0 {
			return "its status cannot be read"
		}
		m := protowire.ConsumeFieldValue(num, kind, body[n:])
		if m < 0 {
			return "its status cannot be read"
		}
		if kind == protowire.VarintType {
			v, _ := protowire.ConsumeVarint(body[n:])
			switch num {
			case statusLeader:
				leader = v
			case statusLearner:
				learner = v
			}
		}
		body = body[n+m:]
	}
	switch {
	case leader == 0:
		return "it has no leader"
	case learner != 0:
		return "it is a learner"
	}
	return ""
}

// judgeHealth reads a HealthCheckResponse: status 1 is SERVING.
func judgeHealth(body []byte, err error) string {
	if err != nil {
		return unavailable(err)
	}
	if len(body) >= 2 && body[0] == 8 && body[1] != 1 {
		return "it says that it does not serve"
	}
	return ""
}

// unavailable is why the member cannot serve when a question ends with err, empty when it can all the same.
func unavailable(err error) string {
	if s := StatusOf(err); s.Code == rpc.Unavailable || s.Code == rpc.DeadlineExceeded {
		return err.Error()
	}
	return ""
}
