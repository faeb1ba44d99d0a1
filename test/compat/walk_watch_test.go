package compat

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"quorate.dev/quorate/test/compat/diff"
	"quorate.dev/quorate/test/compat/script"
)

// patience bounds every wait for something that a correct server does at once.
const patience = 2 * time.Minute

// listener is one watch stream of one server and what came on it.
type listener struct {
	client pb.Watch_WatchClient
	cancel context.CancelFunc

	mu       sync.Mutex
	changed  *sync.Cond
	log      *script.WatchLog
	progress int64 // highest revision of a progress answer
	err      error
}

func listen(conn *grpc.ClientConn) (*listener, error) {
	ctx, cancel := context.WithCancel(context.Background())
	client, err := pb.NewWatchClient(conn).Watch(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	l := &listener{client: client, cancel: cancel, log: script.NewWatchLog()}
	l.changed = sync.NewCond(&l.mu)
	go l.collect()
	return l, nil
}

func (l *listener) collect() {
	for {
		m, err := l.client.Recv()
		l.mu.Lock()
		switch {
		case err != nil:
			l.err = err
		case m.WatchId == -1 && !m.Created:
			// How many progress answers come depends on when they are asked for.
			l.log.Progress(m)
			l.progress = max(l.progress, m.Header.Revision)
		default:
			l.log.Add(m)
		}
		l.changed.Broadcast()
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// until waits for cond, which runs under the lock.
func (l *listener) until(what string, d time.Duration, cond func() bool) error {
	deadline := time.Now().Add(d)
	timer := time.AfterFunc(d, l.changed.Broadcast)
	defer timer.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for !cond() {
		if l.err != nil {
			return fmt.Errorf("waiting for %s, the stream ended: %w", what, l.err)
		}
		if !time.Now().Before(deadline) {
			return fmt.Errorf("%s did not come", what)
		}
		l.changed.Wait()
	}
	return nil
}

// controls counts the control messages that satisfy f. The lock is held.
func (l *listener) controls(f func(*pb.WatchResponse) bool) int {
	n := 0
	for _, m := range l.log.Controls {
		if f(m) {
			n++
		}
	}
	return n
}

func (l *listener) facts() []diff.Fact {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.Facts()
}

// watchPair is the same stream on both servers.
type watchPair struct {
	sides   [2]*listener
	future  bool            // its watches start in the future, those of other streams do not
	created int             // create requests sent
	newest  int64           // revision at the last of them
	live    map[int64]bool  // watch ids that run
	starts  map[int64]int64 // their start revisions
}

func openWatchPair(judge, other *grpc.ClientConn) (*watchPair, error) {
	p := &watchPair{live: map[int64]bool{}, starts: map[int64]int64{}}
	for i, conn := range []*grpc.ClientConn{judge, other} {
		l, err := listen(conn)
		if err != nil {
			return nil, err
		}
		p.sides[i] = l
	}
	return p, nil
}

func (p *watchPair) send(req *pb.WatchRequest) error {
	for i, l := range p.sides {
		if err := l.client.Send(req); err != nil {
			return l.until([]string{"etcd", "the other"}[i]+" to take a request", patience, func() bool { return false })
		}
	}
	return nil
}

// create sends the request and waits for the reply, and for the cancellation where the judge cancels at once.
func (p *watchPair) create(req *pb.WatchCreateRequest, compacted int64) error {
	if err := p.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: req}}); err != nil {
		return err
	}
	p.created++
	var reply *pb.WatchResponse
	for _, l := range p.sides {
		if err := l.until("the create reply", patience, func() bool {
			n := 0
			for _, m := range l.log.Controls {
				if m.Created {
					n, reply = n+1, m
				}
			}
			return n == p.created
		}); err != nil {
			return err
		}
	}
	if reply.Canceled {
		return nil
	}
	id := reply.WatchId
	p.newest = max(p.newest, reply.Header.Revision)
	if req.StartRevision > 0 && req.StartRevision < compacted {
		return p.awaitCancel(id)
	}
	p.live[id], p.starts[id] = true, req.StartRevision
	return nil
}

// awaitCancel waits until the id has been canceled as often as it has been created.
func (p *watchPair) awaitCancel(id int64) error {
	delete(p.live, id)
	for _, l := range p.sides {
		if err := l.until(fmt.Sprintf("the cancellation of watch %d", id), patience, func() bool {
			made := l.controls(func(m *pb.WatchResponse) bool { return m.WatchId == id && m.Created })
			gone := l.controls(func(m *pb.WatchResponse) bool { return m.WatchId == id && m.Canceled })
			return gone >= made
		}); err != nil {
			return err
		}
	}
	return nil
}

// settle waits until both servers have delivered everything up to the revision, which is above newest: a progress answer
// says so, and one for an older revision may be about the time before the newest watch. While a watcher
// waits for a future revision there is none; such a stream has nothing to catch up with.
func (p *watchPair) settle(revision int64) error {
	if len(p.live) == 0 {
		return nil
	}
	for id := range p.live {
		if p.starts[id] > revision {
			return nil
		}
	}
	for _, l := range p.sides {
		deadline := time.Now().Add(patience)
		for {
			// A request that comes while a watcher is behind is dropped: ask again.
			req := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
			if err := l.client.Send(req); err != nil {
				return err
			}
			err := l.until(fmt.Sprintf("progress to revision %d", revision), 50*time.Millisecond, func() bool { return l.progress >= revision })
			if err == nil {
				break
			}
			if l.err != nil || time.Now().After(deadline) {
				return fmt.Errorf("%w\n%s", err, diff.Print(l.facts()))
			}
		}
	}
	return nil
}

// close compares what both listeners saw and ends the streams. Streams that could not settle get time to become equal.
func (p *watchPair) close() []string {
	var lines []string
	for deadline := time.Now().Add(patience); ; {
		judge := p.sides[0].facts()
		lines = diff.Compare(judge, p.sides[1].facts())
		if len(lines) == 0 {
			break
		}
		if time.Now().After(deadline) {
			lines = append([]string{revisionOf(judge, lines[0])}, lines...)
			break
		}
		p.sides[0].until("more", 20*time.Millisecond, func() bool { return false })
	}
	for _, l := range p.sides {
		for _, w := range l.log.Wrong {
			lines = append(lines, "broken promise: "+w)
		}
		l.cancel()
	}
	if len(lines) > 20 {
		lines = append(lines[:20], fmt.Sprintf("and %d more", len(lines)-20))
	}
	return lines
}

// revisionOf names the revision of the event that the first difference is about.
func revisionOf(judge []diff.Fact, line string) string {
	event, _, _ := strings.Cut(line, ": ")
	for _, f := range judge {
		if f.Path == event+": kv.mod_revision" {
			return f.String()
		}
	}
	return "(no such event in etcd)"
}

// describe lists the watches that run, for a failure report.
func (p *watchPair) describe() string {
	var b strings.Builder
	for id := range p.live {
		fmt.Fprintf(&b, "%d from %d; ", id, p.starts[id])
	}
	return b.String()
}
