package proxy

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	prefixed "go.etcd.io/etcd/client/v3/namespace"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
)

// syncTimeout bounds one question for the members.
const syncTimeout = 5 * time.Second

// accompany starts what runs beside the servers until ctx ends.
func (p *Proxy) accompany(ctx context.Context) error {
	if p.cfg.Store.AutoSync > 0 {
		p.work.Go(func() { p.follow(ctx) })
	}
	if p.cfg.Advertise.Prefix == "" {
		return nil
	}
	conf := clientv3.Config{Endpoints: p.cfg.Store.Endpoints, DialTimeout: 5 * time.Second, Logger: p.log.Named("client"), Context: context.Background()}
	if p.storeTLS != nil {
		conf.TLS = p.storeTLS()
	}
	var err error
	if p.client, err = clientv3.New(conf); err != nil {
		return err
	}
	if ns := p.cfg.Namespace; ns != "" {
		p.client.KV = prefixed.NewKV(p.client.KV, ns)
		p.client.Watcher = prefixed.NewWatcher(p.client.Watcher, ns)
		p.client.Lease = prefixed.NewLease(p.client.Lease, ns)
	}
	p.crew.client = p.client
	p.work.Go(func() { p.crew.run(ctx) })
	return nil
}

// follow keeps the endpoints those of the members.
func (p *Proxy) follow(ctx context.Context) {
	t := p.clock.NewTicker(p.cfg.Store.AutoSync)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		if err := p.syncEndpoints(ctx); err != nil && ctx.Err() == nil {
			p.log.Warn("the store's endpoints could not be synchronized", zap.Error(err))
		}
	}
}

func (p *Proxy) syncEndpoints(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	msg, err := proto.Marshal(&etcdserverpb.MemberListRequest{Linearizable: true})
	if err != nil {
		return err
	}
	body, bad := p.forward.ask(ctx, methodMemberList, msg)
	if bad != nil {
		return bad
	}
	var resp etcdserverpb.MemberListResponse
	if err := proto.Unmarshal(body, &resp); err != nil {
		return err
	}
	var urls []string
	for _, m := range resp.Members {
		if m.Name != "" && !m.IsLearner {
			urls = append(urls, m.ClientURLs...)
		}
	}
	if len(urls) == 0 {
		return errors.New("no member has client URLs")
	}
	return p.pool.Update(urls)
}
