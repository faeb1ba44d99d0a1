package proxy

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/rpc"
)

// crew answers MemberList with the proxies that clients should connect to instead of the members behind them, and registers
// this one among them.
type crew struct {
	address string // that this proxy is reached at
	prefix  string // of the keys under which proxies are registered; "" registers none
	ttl     int    // of the registration, seconds
	client  *clientv3.Client
	clock   clock.Clock
	log     *zap.Logger

	mu      sync.Mutex
	proxies map[string]endpoints.Endpoint // by key
}

// rejoinWait is the pause before a registration or a watch that failed is tried again.
const rejoinWait = time.Second

// revokeTimeout bounds taking a registration back.
const revokeTimeout = 2 * time.Second

// proxiesMax bounds the proxies that are remembered; a cluster has a handful.
const proxiesMax = 10_000

// metadata is what a registration says besides the address.
type metadata struct {
	Name string `json:"name"`
}

// list handles MemberList.
func (w *crew) list(c *rpc.Call, _ []byte) {
	resp := &etcdserverpb.MemberListResponse{}
	w.mu.Lock()
	for _, e := range w.proxies {
		var m metadata
		if err := json.Unmarshal(fmt.Append(nil, e.Metadata), &m); err != nil { //nolint:staticcheck // etcd's proxies write it
			w.mu.Unlock()
			c.Fail(&rpc.Status{Code: rpc.Unknown, Message: err.Error()})
			return
		}
		resp.Members = append(resp.Members, &etcdserverpb.Member{Name: m.Name, ClientURLs: []string{e.Addr}})
	}
	w.mu.Unlock()
	slices.SortFunc(resp.Members, func(a, b *etcdserverpb.Member) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ClientURLs[0], b.ClientURLs[0]))
	})
	if len(resp.Members) == 0 {
		resp.Members = []*etcdserverpb.Member{{Name: hostname(), ClientURLs: []string{w.address}}}
	}
	body, err := proto.Marshal(resp)
	if err != nil {
		c.Fail(&rpc.Status{Code: rpc.Internal, Message: err.Error()})
		return
	}
	c.Reply(rpc.RawMessage(body))
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}

// run keeps the registration and the list of proxies up to date until ctx ends.
func (w *crew) run(ctx context.Context) {
	var both sync.WaitGroup
	both.Go(func() { w.repeat(ctx, "registering this proxy", w.register) })
	both.Go(func() { w.repeat(ctx, "watching the registered proxies", w.follow) })
	both.Wait()
}

// repeat does what ends only with an error again, after a pause.
func (w *crew) repeat(ctx context.Context, what string, do func(context.Context) error) {
	for ctx.Err() == nil {
		if err := do(ctx); err != nil && ctx.Err() == nil {
			w.log.Warn(what+" failed; it will be tried again", zap.String("prefix", w.prefix), zap.Error(err))
		}
		t := w.clock.NewTimer(rejoinWait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// register puts the address under a lease, and returns when that has ended.
func (w *crew) register(ctx context.Context) error {
	granted, give := context.WithCancel(w.client.Ctx())
	defer give()
	keep := context.AfterFunc(ctx, give)
	session, err := concurrency.NewSession(w.client, concurrency.WithTTL(w.ttl), concurrency.WithContext(granted))
	if err != nil {
		return err
	}
	keep() // the lease is given back below
	defer w.unregister(session)
	manager, err := endpoints.NewManager(w.client, w.prefix)
	if err != nil {
		return err
	}
	about, err := json.Marshal(metadata{hostname()})
	if err != nil {
		return err
	}
	self := endpoints.Endpoint{Addr: w.address, Metadata: string(about)}
	if err := manager.AddEndpoint(ctx, w.prefix+"/"+w.address, self, clientv3.WithLease(session.Lease())); err != nil {
		return err
	}
	w.log.Info("registered session with lease", zap.String("addr", w.address), zap.Int("lease-ttl", w.ttl))
	select {
	case <-session.Done():
		return fmt.Errorf("the lease %x has ended", session.Lease())
	case <-ctx.Done():
		return nil
	}
}

// unregister gives the lease back, so that clients stop to use this proxy at once.
func (w *crew) unregister(session *concurrency.Session) {
	session.Orphan()
	ctx, cancel := context.WithTimeout(w.client.Ctx(), revokeTimeout)
	defer cancel()
	if _, err := w.client.Revoke(ctx, session.Lease()); err != nil {
		w.log.Warn("the registration could not be taken back; it ends with its lease", zap.Error(err))
	}
}

// follow watches who is registered.
func (w *crew) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	manager, err := endpoints.NewManager(w.client, w.prefix)
	if err != nil {
		return err
	}
	news, err := manager.NewWatchChannel(ctx)
	if err != nil {
		return err
	}
	fresh := true // the first news is the whole list
	for updates := range news {
		w.mu.Lock()
		if fresh {
			w.proxies, fresh = map[string]endpoints.Endpoint{}, false
		}
		for _, u := range updates {
			if u.Op == endpoints.Delete {
				delete(w.proxies, u.Key)
			} else if len(w.proxies) < proxiesMax {
				w.proxies[u.Key] = u.Endpoint
			}
		}
		w.mu.Unlock()
	}
	return ctx.Err()
}
