package cli

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/mirror"
)

// mirrorEvery is the time between two counts that make-mirror prints.
const mirrorEvery = 30 * time.Second

// mirrorFlags are make-mirror's.
type mirrorFlags struct {
	prefix, destPrefix string
	noDestPrefix       bool
	rev                int64
	maxOps             uint
	tls                TLSFlags // of the destination
	user, password     string   // for the destination
}

func (f *mirrorFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.prefix, "prefix", "", "Key-value prefix to mirror")
	fs.Int64Var(&f.rev, "rev", 0, "Specify the kv revision to start to mirror")
	fs.UintVar(&f.maxOps, "max-txn-ops", 128, "Maximum number of operations permitted in a transaction during syncing updates.")
	fs.StringVar(&f.destPrefix, "dest-prefix", "", "destination prefix to mirror a prefix to a different prefix in the destination cluster")
	fs.BoolVar(&f.noDestPrefix, "no-dest-prefix", false, "mirror key-values to the root of the destination cluster")
	fs.StringVar(&f.tls.Cert, "dest-cert", "", "Identify secure client using this TLS certificate file for the destination cluster")
	fs.StringVar(&f.tls.Key, "dest-key", "", "Identify secure client using this TLS key file")
	fs.StringVar(&f.tls.CACert, "dest-cacert", "", "Verify certificates of TLS enabled secure servers using this CA bundle")
	fs.BoolVar(&f.tls.Insecure, "dest-insecure-transport", true, "Disable transport security for client connections")
	fs.StringVar(&f.user, "dest-user", "", "Destination username[:password] for authentication (prompt if password is not supplied)")
	fs.StringVar(&f.password, "dest-password", "", "Destination password for authentication (if this option is used, --user option shouldn't include password)")
}

func mirrorVerb() Verb {
	f := new(mirrorFlags)
	return Verb{
		Use: "make-mirror [options] <destination>", Short: "Makes a mirror at the destination etcd cluster", Group: GroupUtility, Flags: f.register,
		Run: f.run,
	}
}

func (f *mirrorFlags) run(s *Session, args []string) error {
	if len(args) != 1 {
		return Failf(ExitBadArgs, "make-mirror takes one destination argument")
	}
	dest := s.dialSpec([]string{args[0]})
	dest.Secure = &clientv3.SecureConfig{Cert: f.tls.Cert, Key: f.tls.Key, Cacert: f.tls.CACert, InsecureTransport: f.tls.Insecure}
	if f.user != "" {
		var err error
		if dest.Auth, err = s.credentials(f.user, f.password, "Destination Password: "); err != nil {
			return err
		}
	}
	dc, err := s.Dial(dest)
	if err != nil {
		return err
	}
	c, err := s.Client()
	if err != nil {
		return err
	}
	if f.noDestPrefix && f.destPrefix != "" {
		return Failf(ExitBadArgs, "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one")
	}
	m := &mirroring{f: f, s: s, from: c, to: dc}
	err = m.run()
	if err == nil {
		return fmt.Errorf("%v", err) // the watch ended without a reason, which etcdctl calls <nil>
	}
	return err
}

// mirroring copies keys from one cluster to another.
type mirroring struct {
	f        *mirrorFlags
	s        *Session
	from, to *clientv3.Client
	total    atomic.Int64 // keys written or deleted
	bar      *progress    // nil where nobody looks
}

func (m *mirroring) run() error {
	ctx, cancel := context.WithCancel(m.s.Context)
	defer cancel()
	go m.count(ctx)
	start := max(0, m.f.rev-1)
	syncer := mirror.NewSyncer(m.from, m.f.prefix, start)
	if start == 0 {
		if !m.f.noDestPrefix && m.f.destPrefix == "" {
			m.f.destPrefix = m.f.prefix
		}
		if err := m.base(ctx, syncer); err != nil {
			return err
		}
	}
	for resp := range syncer.SyncUpdates(ctx) {
		if resp.CompactRevision != 0 {
			return rpctypes.ErrCompacted
		}
		if err := m.follow(ctx, resp.Events); err != nil {
			return err
		}
	}
	return nil
}

// count prints how many keys were copied, now and then.
func (m *mirroring) count(ctx context.Context) {
	tick := m.s.Clock().NewTicker(mirrorEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.s.Printf("%d\n", m.total.Load())
		case <-ctx.Done():
			return
		}
	}
}

// base copies what there is at one revision.
func (m *mirroring) base(ctx context.Context, syncer mirror.Syncer) error {
	if m.s.Own() && OnTerminal(m.s.Process.Stderr) {
		m.bar = newProgress(m.s, "mirror", "keys", m.size(ctx))
		defer m.bar.end()
	}
	pages, errs := syncer.SyncBase(ctx)
	for page := range pages {
		for _, kv := range page.Kvs {
			if _, err := m.to.Put(ctx, m.rename(string(kv.Key)), string(kv.Value)); err != nil {
				return err
			}
			m.bar.to(m.total.Add(1))
		}
	}
	return <-errs
}

// size counts the keys to copy; 0 when that cannot be known.
func (m *mirroring) size(ctx context.Context) int64 {
	key, opt := m.f.prefix, clientv3.WithPrefix()
	if key == "" {
		key, opt = "\x00", clientv3.WithFromKey()
	}
	resp, err := m.from.Get(ctx, key, opt, clientv3.WithCountOnly())
	if err != nil {
		return 0
	}
	return resp.Count
}

// follow repeats events, each revision in a transaction of its own, or in several when it has too many.
func (m *mirroring) follow(ctx context.Context, events []*clientv3.Event) error {
	var ops []clientv3.Op
	flush := func() error {
		if len(ops) == 0 {
			return nil
		}
		_, err := m.to.Txn(ctx).Then(ops...).Commit()
		ops = nil
		return err
	}
	last := int64(0)
	for _, e := range events {
		if e.Kv.ModRevision > last || len(ops) == int(m.f.maxOps) {
			if err := flush(); err != nil {
				return err
			}
		}
		last = e.Kv.ModRevision
		key := m.rename(string(e.Kv.Key))
		if e.Type == mvccpb.Event_DELETE {
			ops = append(ops, clientv3.OpDelete(key))
		} else {
			ops = append(ops, clientv3.OpPut(key, string(e.Kv.Value)))
		}
		m.total.Add(1)
	}
	return flush()
}

// rename is a key's name at the destination.
func (m *mirroring) rename(key string) string {
	return strings.Replace(key, m.f.prefix, m.f.destPrefix, 1)
}
