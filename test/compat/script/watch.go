package script

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/prototext"

	"quorate.dev/quorate/test/compat/diff"
)

// WatchLog gathers what arrives on one watch stream in a form that does not depend on how a server cuts its messages:
// control messages in order, and per watch id the concatenated events. It reports what no server may do as facts of
// their own: a revision split between messages, events out of order, a header older than its events.
type WatchLog struct {
	Controls []*pb.WatchResponse       // created, canceled and progress messages
	Events   map[int64][]*mvccpb.Event // by watch id, over all lives of that id
	Wrong    []string                  // broken promises

	lives map[int64]*life // by the ids of watches that run
}

// life is what has been seen of one watch since it was created.
type life struct {
	created int64 // header revision of the create reply
	last    int64 // revision of its last event
	partial bool  // its last message was a fragment with more to come
	floor   int64 // a progress answer said that everything up to here has been sent
}

// NewWatchLog returns an empty log.
func NewWatchLog() *WatchLog {
	return &WatchLog{Events: map[int64][]*mvccpb.Event{}, lives: map[int64]*life{}}
}

// Add takes the next message of the stream.
func (l *WatchLog) Add(m *pb.WatchResponse) {
	if len(m.Events) == 0 {
		l.Controls = append(l.Controls, m)
		l.track(m)
		return
	}
	if m.Created || m.Canceled || m.CompactRevision != 0 {
		l.wrong(m, "a control message carries events")
	}
	w := l.lives[m.WatchId]
	if w == nil {
		l.wrong(m, "events for a watch that does not run")
		return
	}
	for i, e := range m.Events {
		rev := e.Kv.ModRevision
		switch {
		case rev < w.last:
			l.wrong(m, fmt.Sprintf("revision %d after %d", rev, w.last))
		case rev == w.last && i == 0 && !w.partial:
			l.wrong(m, fmt.Sprintf("revision %d is split between messages", rev))
		case rev <= w.floor:
			l.wrong(m, fmt.Sprintf("revision %d after a progress answer for %d", rev, w.floor))
		}
		w.last = rev
	}
	l.Events[m.WatchId] = append(l.Events[m.WatchId], m.Events...)
	w.partial = m.Fragment
	if m.Header.GetRevision() < w.last {
		l.wrong(m, fmt.Sprintf("header.revision %d is below the event's %d", m.Header.GetRevision(), w.last))
	}
}

func (l *WatchLog) wrong(m *pb.WatchResponse, what string) {
	l.Wrong = append(l.Wrong, fmt.Sprintf("watch %d: %s", m.WatchId, what))
}

// track follows which watches run and up to where progress answers say that they have sent everything.
func (l *WatchLog) track(m *pb.WatchResponse) {
	switch {
	case m.Canceled:
		delete(l.lives, m.WatchId)
	case m.Created:
		l.lives[m.WatchId] = &life{created: m.Header.GetRevision()}
	default:
		l.Progress(m)
	}
}

// Progress takes a progress answer without keeping it as a control message. One that is not newer than a watch may have been
// on its way when the watch was created; it says nothing of that watch.
func (l *WatchLog) Progress(m *pb.WatchResponse) {
	for id, w := range l.lives {
		if (m.WatchId == -1 || m.WatchId == id) && m.Header.GetRevision() > w.created {
			w.floor = max(w.floor, m.Header.GetRevision())
		}
	}
}

// Facts lists everything in the log.
func (l *WatchLog) Facts() []diff.Fact {
	var facts []diff.Fact
	created := 0
	perID := map[int64]int{}
	for _, m := range l.Controls {
		// Create replies are ordered over the whole stream, everything else within its watch id.
		prefix := fmt.Sprintf("watch %d control %d: ", m.WatchId, perID[m.WatchId])
		if m.Created {
			prefix = fmt.Sprintf("created %d: ", created)
			created++
		} else {
			perID[m.WatchId]++
		}
		for _, f := range diff.Message(m) {
			f.Path = prefix + f.Path
			facts = append(facts, f)
		}
	}
	ids := make([]int64, 0, len(l.Events))
	for id := range l.Events {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	for _, id := range ids {
		facts = append(facts, diff.Fact{Path: fmt.Sprintf("watch %d", id), Value: fmt.Sprintf("%d events", len(l.Events[id]))})
		for i, e := range l.Events[id] {
			for _, f := range diff.Message(e) {
				f.Path = fmt.Sprintf("watch %d event %d: %s", id, i, f.Path)
				facts = append(facts, f)
			}
		}
	}
	for i, w := range l.Wrong {
		facts = append(facts, diff.Fact{Path: fmt.Sprintf("broken promise %d", i), Value: w})
	}
	return facts
}

// watchStream is one open stream of a running case.
type watchStream struct {
	name, known string
	seq         int
	client      pb.Watch_WatchClient // nil for an election observer
	cancel      context.CancelFunc

	mu   sync.Mutex
	cond *sync.Cond
	log  *WatchLog
	seen []*v3electionpb.LeaderResponse
	err  error // how the stream ended
	done bool
}

// watch performs the statements about watch streams.
func (r *runner) watch(ctx context.Context, verb, rest, known string) error {
	name, rest, _ := strings.Cut(rest, " ")
	if verb == "stream" {
		return r.openWatch(ctx, name, known)
	}
	w := r.streams[name]
	if w == nil {
		return fmt.Errorf("no stream %q", name)
	}
	switch verb {
	case "send":
		req := &pb.WatchRequest{}
		if err := prototext.Unmarshal([]byte(rest), req); err != nil {
			return err
		}
		return w.client.Send(req)
	case "wait":
		return w.wait(rest)
	case "closesend":
		return w.client.CloseSend()
	}
	w.cancel()
	return nil
}

func (r *runner) openWatch(ctx context.Context, name, known string) error {
	ctx, w := r.newStream(ctx, name, known)
	client, err := pb.NewWatchClient(r.target.Conn).Watch(ctx)
	if err != nil {
		return err
	}
	w.client = client
	go w.collect(func() error {
		m, err := client.Recv()
		if err != nil {
			return err
		}
		if r.target.Mutate != nil {
			r.target.Mutate("Watch", m)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.log.Add(m)
		return nil
	})
	return nil
}

// openObserve opens an election observer: "name fields of LeaderRequest".
func (r *runner) openObserve(ctx context.Context, rest, known string) error {
	name, text, _ := strings.Cut(rest, " ")
	req := &v3electionpb.LeaderRequest{}
	if err := prototext.Unmarshal([]byte(text), req); err != nil {
		return err
	}
	ctx, w := r.newStream(ctx, name, known)
	client, err := v3electionpb.NewElectionClient(r.target.Conn).Observe(ctx, req)
	if err != nil {
		return err
	}
	go w.collect(func() error {
		m, err := client.Recv()
		if err != nil {
			return err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.seen = append(w.seen, m)
		return nil
	})
	return nil
}

func (r *runner) newStream(ctx context.Context, name, known string) (context.Context, *watchStream) {
	if r.meta != nil {
		ctx = metadata.NewOutgoingContext(ctx, r.meta)
		r.meta = nil
	}
	ctx = r.users.context(ctx)
	w := &watchStream{name: name, known: known, seq: len(r.streams), log: NewWatchLog()}
	w.cond = sync.NewCond(&w.mu)
	ctx, w.cancel = context.WithCancel(ctx)
	r.streams[name] = w
	return ctx, w
}

func (w *watchStream) collect(recv func() error) {
	for {
		err := recv()
		w.mu.Lock()
		if err != nil {
			w.err, w.done = err, true
		}
		w.cond.Broadcast()
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// wait blocks until all of its words hold: created=N create replies, events=ID:N events of a watch, canceled=ID,
// progress=ID:N, seen=N answers of an observer, end of the stream.
func (w *watchStream) wait(words string) error {
	timer := time.AfterFunc(callTimeout, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.cond.Broadcast()
	})
	defer timer.Stop()
	deadline := time.Now().Add(callTimeout)
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		missing := ""
		for _, word := range strings.Fields(words) {
			ok, err := w.holds(word)
			if err != nil {
				return err
			}
			if !ok {
				missing = word
			}
		}
		switch {
		case missing == "":
			return nil
		case w.done:
			return fmt.Errorf("stream %s ended (%v) before %s\n%s", w.name, w.err, missing, diff.Print(w.log.Facts()))
		case !time.Now().Before(deadline):
			return fmt.Errorf("stream %s: %s did not come\n%s", w.name, missing, diff.Print(w.log.Facts()))
		}
		w.cond.Wait()
	}
}

func (w *watchStream) holds(word string) (bool, error) {
	what, arg, _ := strings.Cut(word, "=")
	ids, count, pair := strings.Cut(arg, ":")
	if !pair {
		count = arg
	}
	n, _ := strconv.Atoi(count)
	id, _ := strconv.ParseInt(ids, 10, 64)
	switch what {
	case "end":
		return w.done, nil
	case "seen":
		return len(w.seen) >= n, nil
	case "events":
		return len(w.log.Events[id]) >= n, nil
	}
	have := 0
	for _, m := range w.log.Controls {
		switch {
		case what == "created" && m.Created,
			what == "canceled" && m.Canceled && !m.Created && m.WatchId == id,
			what == "progress" && !m.Created && !m.Canceled && m.WatchId == id:
			have++
		}
	}
	switch what {
	case "canceled":
		n = 1
	case "created", "progress":
	default:
		return false, fmt.Errorf("cannot wait for %q", word)
	}
	return have >= n, nil
}

// close cancels the stream if it is open and lists all its facts, the end included when it came by itself.
func (w *watchStream) close() []diff.Fact {
	w.mu.Lock()
	ended := w.done
	w.mu.Unlock()
	w.cancel()
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.done {
		w.cond.Wait()
	}
	facts := w.log.Facts()
	for i, m := range w.seen {
		for _, f := range diff.Message(m) {
			f.Path = fmt.Sprintf("answer %d: %s", i, f.Path)
			facts = append(facts, f)
		}
	}
	if ended && !errors.Is(w.err, io.EOF) {
		facts = append(facts, diff.Error(w.err)...)
	} else if ended {
		facts = append(facts, diff.Fact{Path: "end", Value: "EOF"})
	}
	return append(facts, diff.Fact{Path: "stream", Value: w.name})
}

// order returns the streams in the order of their opening.
func (r *runner) order() []*watchStream {
	var ws []*watchStream
	for _, w := range r.streams {
		ws = append(ws, w)
	}
	sort.Slice(ws, func(i, j int) bool { return ws[i].seq < ws[j].seq })
	return ws
}
