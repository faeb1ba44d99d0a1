package script

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"quorate.dev/quorate/test/compat/diff"
)

// callTimeout bounds one call and one wait. Nothing in a scenario takes this long unless it is wrong.
const callTimeout = 2 * time.Minute

// Entry is what one statement brought to light.
type Entry struct {
	At    string // file:line statement
	Known string
	Facts []diff.Fact
}

// Trace is the record of one run.
type Trace struct {
	Entries []Entry
	Failed  []string // expectations that this server did not meet, timeouts, malformed statements
}

// Target is a server as a scenario sees it. Restart may be nil when the server is shared.
type Target struct {
	Conn    *grpc.ClientConn
	Restart func() (*grpc.ClientConn, error)
	// Mutate, when set, may change an answer before it is recorded. The tests of the harness lie with it.
	Mutate func(method string, m proto.Message)
}

// runner holds the state of one run of one case.
type runner struct {
	target  *Target
	file    string
	vars    map[string]int64
	meta    metadata.MD
	timeout time.Duration
	streams map[string]*watchStream
	calls   map[string]chan answer // async calls by name
	users   users
	last    answer
	trace   Trace
}

// answer is the outcome of a call.
type answer struct {
	method string
	msg    proto.Message
	err    error
}

// methods maps an RPC's short name to its descriptor; the names are unique over all of etcd's services.
var methods = func() map[string]protoreflect.MethodDescriptor {
	out := map[string]protoreflect.MethodDescriptor{}
	for _, f := range []protoreflect.FileDescriptor{pb.File_rpc_proto, v3lockpb.File_v3lock_proto, v3electionpb.File_v3election_proto} {
		for i := range f.Services().Len() {
			ms := f.Services().Get(i).Methods()
			for j := range ms.Len() {
				out[string(ms.Get(j).Name())] = ms.Get(j)
			}
		}
	}
	return out
}()

// Run executes the case against the target and returns what it saw. Streams and calls left open are closed.
func Run(c Case, t *Target) Trace {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r := &runner{target: t, file: filepath.Base(c.File), streams: map[string]*watchStream{}, calls: map[string]chan answer{}}
	r.vars = map[string]int64{}
	start, err := pb.NewKVClient(t.Conn).Range(ctx, &pb.RangeRequest{Key: []byte("a"), CountOnly: true})
	if status.Code(err) == codes.InvalidArgument { // authentication is enabled: the case knows what it starts from
		start, err = &pb.RangeResponse{Header: &pb.ResponseHeader{}}, nil
	}
	if err != nil {
		r.trace.Failed = append(r.trace.Failed, "reading the current revision: "+err.Error())
		return r.trace
	}
	r.vars["base"], r.vars["rev"] = start.Header.Revision, start.Header.Revision
	r.vars["member"], r.vars["cluster"] = int64(start.Header.MemberId), int64(start.Header.ClusterId)
	for _, s := range c.Steps {
		if !r.step(ctx, s) {
			break
		}
	}
	for _, w := range r.order() {
		r.trace.Entries = append(r.trace.Entries, Entry{At: r.file + ": stream " + w.name, Known: w.known, Facts: w.close()})
	}
	return r.trace
}

// step runs one statement. False ends the case: later steps would make no sense.
func (r *runner) step(ctx context.Context, s Step) bool {
	at := fmt.Sprintf("%s:%d %s %s", r.file, s.Line, s.Verb, shorten(s.Rest))
	rest, err := expand(s.Rest, r.vars)
	if err == nil {
		var facts []diff.Fact
		facts, err = r.perform(ctx, s.Verb, rest, s.Known)
		if facts != nil {
			r.trace.Entries = append(r.trace.Entries, Entry{At: at, Known: s.Known, Facts: facts})
		}
	}
	var unmet *unmetError
	if errors.As(err, &unmet) {
		r.trace.Failed = append(r.trace.Failed, at+"\n"+err.Error())
		return true
	}
	if err != nil {
		r.trace.Failed = append(r.trace.Failed, at+": "+err.Error())
	}
	return err == nil
}

// unmetError says that a server answered otherwise than the scenario expects.
type unmetError struct{ text string }

func (e *unmetError) Error() string { return e.text }

func (r *runner) perform(ctx context.Context, verb, rest, known string) ([]diff.Fact, error) {
	switch verb {
	case "=", "!":
		return nil, r.expect(verb, rest)
	case "let":
		r.vars[rest] = r.vars["rev"]
		return nil, nil
	case "meta":
		k, v, _ := strings.Cut(rest, "=")
		text, err := strconv.Unquote(`"` + v + `"`)
		if r.meta == nil {
			r.meta = metadata.MD{}
		}
		r.meta.Append(k, text)
		return nil, err
	case "timeout":
		d, err := time.ParseDuration(rest)
		r.timeout = d
		return nil, err
	case "login", "as", "token", "keep":
		return r.users.statement(ctx, r, verb, rest)
	case "repeat":
		return r.repeat(ctx, rest)
	case "async", "await":
		return r.async(ctx, verb, rest)
	case "eventually":
		return r.eventually(ctx, rest)
	case "restart":
		conn, err := r.target.Restart()
		r.target.Conn = conn
		return nil, err
	case "keepalive":
		return r.keepAlive(ctx, rest)
	case "observe":
		return nil, r.openObserve(ctx, rest, known)
	case "stream", "send", "wait", "closesend", "cancel":
		return nil, r.watch(ctx, verb, rest, known)
	}
	a, err := r.call(ctx, verb, rest)
	if err != nil {
		return nil, err
	}
	return r.record(a), nil
}

// call makes one RPC. The returned error is about the statement; the server's is in the answer.
func (r *runner) call(ctx context.Context, name, text string) (answer, error) {
	md := methods[name]
	if md == nil {
		return answer{}, fmt.Errorf("no statement and no RPC is called %q", name)
	}
	req, err := newMessage(md.Input(), text)
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := r.callContext(ctx)
	defer cancel()
	full := fmt.Sprintf("/%s/%s", md.Parent().FullName(), md.Name())
	a := answer{method: name}
	if md.IsStreamingServer() {
		a.msg, a.err = r.rangeStream(ctx, req)
		return a, nil
	}
	resp, err := newMessage(md.Output(), "")
	if err != nil {
		return answer{}, err
	}
	a.msg, a.err = resp, r.target.Conn.Invoke(ctx, full, req, resp)
	return a, nil
}

// callContext applies the metadata and timeout that were stated for the next call.
func (r *runner) callContext(ctx context.Context) (context.Context, context.CancelFunc) {
	d := callTimeout
	if r.timeout > 0 {
		d, r.timeout = r.timeout, 0
	}
	if r.meta != nil {
		ctx = metadata.NewOutgoingContext(ctx, r.meta)
		r.meta = nil
	}
	ctx = r.users.context(ctx)
	return context.WithTimeout(ctx, d)
}

func newMessage(d protoreflect.MessageDescriptor, text string) (proto.Message, error) {
	mt, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		return nil, err
	}
	m := mt.New().Interface()
	if err := prototext.Unmarshal([]byte(text), m); err != nil {
		return nil, fmt.Errorf("%s: %w", d.Name(), err)
	}
	return m, nil
}

// rangeStream merges the messages of a RangeStream as its clients do. How many messages there are is the server's choice.
func (r *runner) rangeStream(ctx context.Context, req proto.Message) (proto.Message, error) {
	rr, ok := req.(*pb.RangeRequest)
	if !ok {
		return nil, fmt.Errorf("only RangeStream can be called as a server stream, not %T", req)
	}
	stream, err := pb.NewKVClient(r.target.Conn).RangeStream(ctx, rr)
	if err != nil {
		return nil, err
	}
	merged := &pb.RangeResponse{}
	for {
		m, err := stream.Recv()
		if err == io.EOF {
			return merged, nil
		}
		if err != nil {
			return nil, err
		}
		p := m.RangeResponse
		if merged.Header != nil {
			return nil, errors.New("a message follows the one with the header")
		}
		merged.Header, merged.Count, merged.More = p.GetHeader(), p.GetCount(), p.GetMore()
		merged.Kvs = append(merged.Kvs, p.GetKvs()...)
	}
}

// record lists the facts of an answer and remembers the answer and its revision.
func (r *runner) record(a answer) []diff.Fact {
	if a.err == nil && r.target.Mutate != nil {
		r.target.Mutate(a.method, a.msg)
	}
	r.last = a
	if a.err != nil {
		return diff.Error(a.err)
	}
	if h, ok := a.msg.(interface{ GetHeader() *pb.ResponseHeader }); ok && h.GetHeader().GetRevision() != 0 {
		r.vars["rev"] = h.GetHeader().GetRevision()
	}
	return diff.Message(a.msg)
}

// expect checks the last answer: "= fields" or "! Code text".
func (r *runner) expect(verb, rest string) error {
	got := diff.Error(r.last.err)
	if verb == "!" {
		code, text, _ := strings.Cut(rest, " ")
		want := []diff.Fact{{Path: "code", Value: code}}
		if text != "" {
			want = append(want, diff.Fact{Path: "text", Value: strconv.Quote(text)})
		}
		return unmet(diff.Subset(want, got))
	}
	if r.last.err != nil {
		return unmet([]string{"expected success, got " + r.last.err.Error()})
	}
	want, err := newMessage(r.last.msg.ProtoReflect().Descriptor(), rest)
	if err != nil {
		return err
	}
	facts := diff.Message(want)
	if rest == "" {
		facts = nil
	}
	return unmet(diff.Subset(facts, diff.Message(r.last.msg)))
}

func unmet(lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	return &unmetError{"    " + strings.Join(lines, "\n    ")}
}

// repeat runs "N Method fields" with $i counting from 0. Answers are recorded one by one.
func (r *runner) repeat(ctx context.Context, rest string) ([]diff.Fact, error) {
	count, rest, _ := strings.Cut(rest, " ")
	name, text, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(count)
	if err != nil {
		return nil, err
	}
	var facts []diff.Fact
	for i := range n {
		a, err := r.call(ctx, name, withIndex(text, i))
		if err != nil {
			return nil, err
		}
		for _, f := range r.record(a) {
			f.Path = fmt.Sprintf("%d: %s", i, f.Path)
			facts = append(facts, f)
		}
	}
	return facts, nil
}

// async starts "name Method fields" without waiting; await records the answer of the call of that name.
func (r *runner) async(ctx context.Context, verb, rest string) ([]diff.Fact, error) {
	id, rest, _ := strings.Cut(rest, " ")
	if verb == "async" {
		name, text, _ := strings.Cut(rest, " ")
		ch := make(chan answer, 1)
		// The call gets a runner of its own: the metadata and timeout of the next call are this call's.
		sub := &runner{target: r.target, meta: r.meta, timeout: r.timeout, users: r.users}
		r.meta, r.timeout, r.calls[id] = nil, 0, ch
		go func() {
			a, err := sub.call(ctx, name, text)
			if err != nil {
				a.err = err
			}
			ch <- a
		}()
		return nil, nil
	}
	ch := r.calls[id]
	if ch == nil {
		return nil, fmt.Errorf("no async call %q", id)
	}
	select {
	case a := <-ch:
		return r.record(a), nil
	case <-time.After(callTimeout):
		return nil, fmt.Errorf("async call %q has no answer", id)
	}
}

// eventually repeats "Method fields => expected" every 20 ms until the expectation holds and records the last answer.
func (r *runner) eventually(ctx context.Context, rest string) ([]diff.Fact, error) {
	rest, want, ok := strings.Cut(rest, "=>")
	if !ok {
		return nil, errors.New("eventually needs =>")
	}
	name, text, _ := strings.Cut(rest, " ")
	deadline := time.Now().Add(callTimeout)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		a, err := r.call(ctx, name, text)
		if err != nil {
			return nil, err
		}
		facts := r.record(a)
		verb, w := "=", strings.TrimSpace(want)
		if after, isErr := strings.CutPrefix(w, "!"); isErr {
			verb, w = "!", strings.TrimSpace(after)
		}
		if err = r.expect(verb, w); err == nil {
			return facts, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("did not happen: %w", err)
		}
		<-tick.C
	}
}

// keepAlive sends one message on a LeaseKeepAlive stream of its own and records the reply.
func (r *runner) keepAlive(ctx context.Context, rest string) ([]diff.Fact, error) {
	req := &pb.LeaseKeepAliveRequest{}
	if err := prototext.Unmarshal([]byte(rest), req); err != nil {
		return nil, err
	}
	ctx, cancel := r.callContext(ctx)
	defer cancel()
	a := answer{method: "LeaseKeepAlive"}
	stream, err := pb.NewLeaseClient(r.target.Conn).LeaseKeepAlive(ctx)
	if err == nil {
		err = stream.Send(req)
	}
	if err == nil {
		a.msg, err = stream.Recv()
	}
	if a.err = err; err == nil {
		stream.CloseSend()
		if _, err := stream.Recv(); err != io.EOF {
			a.err = fmt.Errorf("after the client's half close: %w", err)
		}
	}
	return r.record(a), nil
}

func shorten(s string) string {
	if len(s) > 160 {
		return s[:157] + "..."
	}
	return s
}
