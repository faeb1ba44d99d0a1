package serving

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	k8s "quorate.dev/quorate/test/kubernetes"
)

// count returns how many keys are below /registry/ + prefix.
func (s *stand) count(t *testing.T, prefix string) int64 {
	t.Helper()
	resp, err := s.root.Get(t.Context(), "/registry/"+prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	must(t, err)
	return resp.Count
}

// rights: the API servers' user has what is Kubernetes' and nothing else, and somebody without a certificate nothing at all.
func rights(t *testing.T, s *stand) {
	c, err := s.store.APIClient()
	must(t, err)
	defer c.Close()
	ctx := t.Context()
	_, err = c.Get(ctx, "/registry/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	must(t, err)
	_, err = c.Status(ctx, s.store.Members[0].URL)
	must(t, err)
	denied := func(err error) bool { return err == rpctypes.ErrPermissionDenied }
	_, err = c.Put(ctx, "/other", "x")
	refused(t, "to write elsewhere", err, denied)
	_, err = c.Get(ctx, "/", clientv3.WithPrefix())
	refused(t, "to read all", err, denied)
	_, err = c.UserAdd(ctx, "mallory", "x")
	refused(t, "to make a user", err, denied)
	resp, err := s.root.Get(ctx, "", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	must(t, err)
	for _, kv := range resp.Kvs {
		if key := string(kv.Key); key != "compact_rev_key" && !strings.HasPrefix(key, "/registry/") {
			t.Errorf("the API servers wrote %s", key)
		}
	}
	config, err := s.store.TLS()
	must(t, err)
	config.Certificates = nil
	stranger, err := clientv3.New(clientv3.Config{Endpoints: s.store.URLs(), TLS: config, DialTimeout: time.Second, Logger: zap.NewNop()})
	if err == nil {
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err = stranger.Get(short, "/registry/", clientv3.WithPrefix())
		stranger.Close()
	}
	refused(t, "a stranger", err, func(error) bool { return true })
}

// compact does what an API server does for a compaction, up to now.
func (s *stand) compact(t *testing.T) {
	t.Helper()
	rev := s.revision(t)
	if _, err := s.root.Put(t.Context(), "compact_rev_key", fmt.Sprint(rev)); err != rpctypes.ErrNoSpace {
		must(t, err)
	}
	_, err := s.root.Compact(t.Context(), rev)
	must(t, err)
}

// compacted: what lists and watches of revisions that are gone are told.
func compacted(t *testing.T, s *stand) {
	s.both(t, func(t *testing.T, x *side, ns string) {
		settled(t, x, ns)
		fill(t, x, ns, 60)
		ctx, maps := t.Context(), x.CoreV1().ConfigMaps(ns)
		first, err := maps.List(ctx, metav1.ListOptions{Limit: 25})
		must(t, err)
		_, err = maps.Create(ctx, configMap("cm-0059-later"), metav1.CreateOptions{})
		must(t, err)
		s.compact(t)
		// An API server with a watch cache goes on with what it remembers, until it has noticed.
		next := metav1.ListOptions{Limit: 25, Continue: first.Continue}
		eventually(t, "a list that is continued has expired", func() error {
			if _, err := maps.List(ctx, next); !apierrors.IsResourceExpired(err) {
				return fmt.Errorf("it says %v", err)
			}
			return nil
		})
		_, err = maps.List(ctx, next)
		status, ok := err.(apierrors.APIStatus)
		if !ok || status.Status().Code != http.StatusGone || status.Status().Continue == "" {
			t.Fatalf("%v offers no way to go on", err)
		}
		rest, err := maps.List(ctx, metav1.ListOptions{Continue: status.Status().Continue})
		must(t, err)
		if n := len(first.Items) + len(rest.Items); n != 60+1+1 { // and kube-root-ca.crt
			t.Errorf("%d in all when it was continued with what is there now", n)
		}
		_, err = maps.List(ctx, metav1.ListOptions{ResourceVersion: first.ResourceVersion, ResourceVersionMatch: metav1.ResourceVersionMatchExact})
		refused(t, "a list of a revision that is gone", err, func(err error) bool { return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) })
		for what, begin := range map[string]func() (watch.Interface, error){
			"events": func() (watch.Interface, error) {
				return x.CoreV1().Events(ns).Watch(ctx, metav1.ListOptions{ResourceVersion: "1"})
			},
			"config maps": func() (watch.Interface, error) { return maps.Watch(ctx, metav1.ListOptions{ResourceVersion: "1"}) },
		} {
			w, err := begin()
			if err := expired(t, w, err); err != nil {
				t.Errorf("a watch of %s from revision 1: %v", what, err)
			}
		}
	})
}

// compactRevision is the store's, which only a read of what is gone tells.
func (s *stand) compactRevision(t *testing.T) int64 {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := s.root.Watch(ctx, "compact_rev_key", clientv3.WithRev(1))
	for r := range w {
		return r.CompactRevision
	}
	return 0
}

// compaction by an API server itself, which is started anew for that. To compact is root's right, so its user gets that role.
func compaction(t *testing.T, s *stand) {
	x := s.direct()
	c, err := s.store.APIClient()
	must(t, err)
	defer c.Close()
	_, err = c.Compact(t.Context(), s.revision(t))
	refused(t, "a compaction by who has but the keys", err, func(err error) bool { return err == rpctypes.ErrPermissionDenied })
	_, err = s.root.UserGrantRole(t.Context(), k8s.StoreUser, "root")
	must(t, err)
	must(t, x.api.Stop())
	x.api.Flags = append(x.api.Flags, "--etcd-compaction-interval=3s")
	must(t, x.api.Start(t.Context(), s.store.Store()))
	ns := namespace(t, x)
	_, err = x.CoreV1().ConfigMaps(ns).Create(t.Context(), configMap("one"), metav1.CreateOptions{})
	must(t, err)
	was := s.compactRevision(t)
	for round := range 2 { // that it has done it once does not mean that it goes on
		target := s.revision(t)
		eventually(t, "the API server compacts the store", func() error {
			if rev := s.compactRevision(t); rev < target {
				return fmt.Errorf("it is compacted to %d, not to %d", rev, target)
			}
			return nil
		})
		_, err := x.CoreV1().ConfigMaps(ns).Create(t.Context(), configMap(fmt.Sprintf("more-%d", round)), metav1.CreateOptions{})
		must(t, err)
	}
	resp, err := s.root.Get(t.Context(), "compact_rev_key")
	must(t, err)
	if len(resp.Kvs) != 1 || resp.Kvs[0].Version < 2 {
		t.Errorf("compact_rev_key is %v", resp.Kvs)
	}
	_, err = s.root.UserRevokeRole(t.Context(), k8s.StoreUser, "root")
	must(t, err)
	t.Logf("the store was compacted to %d, is to %d", was, s.compactRevision(t))
}

// observer keeps changing one object through an API server without watch caches, whose watches are the store's, and resumes a watch there;
// through another one it looks as controllers do, which list again when they have to.
type observer struct {
	acknowledged int // the last that was
	stop         context.CancelFunc
	ended        sync.WaitGroup
	store        cache.Store
	mu           sync.Mutex
	seen         []int
	errs         []error
}

// observe begins it.
func (s *stand) observe(t *testing.T, ns string) *observer {
	o := &observer{}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	o.stop = cancel
	x := s.cached()
	first, err := s.direct().CoreV1().ConfigMaps(ns).Create(ctx, configMap("counter", "n", "0"), metav1.CreateOptions{})
	must(t, err)
	list := cache.NewListWatchFromClient(x.CoreV1().RESTClient(), "configmaps", ns, fields.Everything())
	store, controller := cache.NewInformerWithOptions(cache.InformerOptions{ListerWatcher: list, ObjectType: &corev1.ConfigMap{}, Handler: cache.ResourceEventHandlerFuncs{}})
	o.store = store
	o.ended.Go(func() { controller.RunWithContext(ctx) })
	o.ended.Go(func() { o.write(ctx, s.direct(), ns) })
	o.ended.Go(func() { o.watch(ctx, s.direct(), ns, first.ResourceVersion) })
	return o
}

func (o *observer) write(ctx context.Context, x *side, ns string) {
	for n := 1; ctx.Err() == nil; {
		m, err := x.CoreV1().ConfigMaps(ns).Get(ctx, "counter", metav1.GetOptions{})
		if err == nil {
			if is, _ := strconv.Atoi(m.Data["n"]); is != n-1 && is != n {
				o.fail(fmt.Errorf("the counter is %d after %d was acknowledged", is, n-1))
				return
			}
			m.Data["n"] = strconv.Itoa(n)
			_, err = x.CoreV1().ConfigMaps(ns).Update(ctx, m, metav1.UpdateOptions{})
		}
		if err == nil {
			o.mu.Lock()
			o.acknowledged = n
			o.mu.Unlock()
			n++
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// watch resumes where it was, as long as it may.
func (o *observer) watch(ctx context.Context, x *side, ns, from string) {
	for ; ctx.Err() == nil; pause(ctx, 50*time.Millisecond) {
		w, err := x.CoreV1().ConfigMaps(ns).Watch(ctx, metav1.ListOptions{ResourceVersion: from, FieldSelector: "metadata.name=counter"})
		if err != nil {
			continue
		}
		for e := range w.ResultChan() {
			m, ok := e.Object.(*corev1.ConfigMap)
			if !ok {
				break
			}
			from = m.ResourceVersion
			n, _ := strconv.Atoi(m.Data["n"])
			o.mu.Lock()
			o.seen = append(o.seen, n)
			o.mu.Unlock()
		}
		w.Stop()
	}
}

func (o *observer) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.errs = append(o.errs, err)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// progress returns the number of the last write that was acknowledged.
func (o *observer) progress() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.acknowledged
}

// goesOn waits until writes are acknowledged, and seen by both who watch, after what has just happened.
func (o *observer) goesOn(t *testing.T, after string) {
	t.Helper()
	was := o.progress()
	eventually(t, after+": writes go on and are seen", func() error {
		o.mu.Lock()
		defer o.mu.Unlock()
		if len(o.errs) != 0 {
			t.Fatal(o.errs)
		}
		if o.acknowledged < was+3 {
			return fmt.Errorf("%d is acknowledged, %d was", o.acknowledged, was)
		}
		if len(o.seen) == 0 || o.seen[len(o.seen)-1] <= was {
			return fmt.Errorf("the watch has seen %d, not %d", len(o.seen), was)
		}
		for _, e := range o.store.List() {
			if m := e.(*corev1.ConfigMap); m.Name == "counter" {
				if n, _ := strconv.Atoi(m.Data["n"]); n <= was {
					return fmt.Errorf("the informer has %d, not %d", n, was)
				}
				return nil
			}
		}
		return fmt.Errorf("the informer has no counter")
	})
}

// end stops it: every number was seen once, in order.
func (o *observer) end(t *testing.T) {
	t.Helper()
	o.stop()
	o.ended.Wait()
	if len(o.errs) != 0 {
		t.Error(o.errs)
	}
	for i, n := range o.seen {
		if n != i+1 {
			t.Fatalf("the watch saw %v in the place %d", o.seen[max(0, i-3):min(len(o.seen), i+3)], i+1)
		}
	}
	t.Logf("%d writes acknowledged, all seen once and in order", o.acknowledged)
}

// restarts of an API server whose clients list and watch, and of the store under both, by SIGTERM and SIGKILL.
func restarts(t *testing.T, s *stand) {
	x := s.cached()
	ns := namespace(t, x)
	o := s.observe(t, ns)
	defer o.stop()
	o.goesOn(t, "at rest")
	must(t, x.api.Stop())
	must(t, x.api.Start(t.Context(), s.store.Store()))
	o.goesOn(t, "the API server was started anew")
	m := s.store.Members[0]
	must(t, m.Stop())
	eventually(t, "without its store the API server is not ready", func() error {
		if code, _, _ := x.get(t, "/readyz"); code == http.StatusOK {
			return fmt.Errorf("it is")
		}
		return nil
	})
	_, _, body := x.get(t, "/readyz?verbose")
	if text := string(body); !strings.Contains(text, "[-]etcd failed") || !strings.Contains(text, "[-]etcd-readiness failed") {
		t.Errorf("/readyz without a store: %s", text)
	}
	must(t, m.Start())
	o.goesOn(t, "the store was stopped and started")
	for range 3 {
		m.Kill()
		must(t, m.Start())
		o.goesOn(t, "the store was killed and started")
	}
	health(t, s)
	o.end(t)
}

// quota: a full store refuses what makes it grow, says why, goes on with reads and deletions, and takes writes again when there is space.
func quota(t *testing.T, s *stand) {
	x, m := s.direct(), s.store.Members[0]
	ctx, ns := t.Context(), namespace(t, x)
	maps := x.CoreV1().ConfigMaps(ns)
	st, err := s.root.Status(ctx, m.URL)
	must(t, err)
	must(t, m.Stop())
	const room, piece = 8 << 20, 512 << 10
	m.Flags = append(m.Flags, fmt.Sprintf("--quota-backend-bytes=%d", max(st.DbSize, st.DbSizeInUse)+room))
	must(t, m.Start())
	health(t, s)
	var full error
	n := 0
	for ; full == nil && n < 4*room/piece; n++ {
		_, full = maps.Create(ctx, configMap(fmt.Sprintf("m-%d", n), "a", strings.Repeat("0123456789abcdef", piece/16)), metav1.CreateOptions{})
	}
	refused(t, "a write to a full store", full, func(error) bool { return n > room/piece/4 }, "etcdserver: mvcc: database space exceeded")
	t.Logf("full after %d objects of %d bytes: %v", n-1, piece, full)
	l, err := maps.List(ctx, metav1.ListOptions{})
	must(t, err)
	if len(l.Items) < n-1 {
		t.Errorf("%d of %d objects are there", len(l.Items), n-1)
	}
	for i := range n - 1 {
		must(t, maps.Delete(ctx, fmt.Sprintf("m-%d", i), metav1.DeleteOptions{}))
	}
	s.compact(t)
	_, err = s.root.Defragment(ctx, m.URL) // with us neither this nor the next is needed
	must(t, err)
	_, err = s.root.AlarmDisarm(ctx, &clientv3.AlarmMember{})
	must(t, err)
	eventually(t, "writes are taken again", func() error {
		_, err := maps.Create(ctx, configMap("after"), metav1.CreateOptions{})
		return err
	})
}

// health and the parts of it that look at the store.
func health(t *testing.T, s *stand) {
	for _, x := range s.sides {
		for path, parts := range map[string][]string{"/readyz": {"etcd", "etcd-readiness"}, "/livez": {"etcd"}, "/healthz": {"etcd"}} {
			eventually(t, x.name+": "+path, func() error {
				code, _, body := x.get(t, path+"?verbose")
				for _, part := range parts {
					if code != http.StatusOK || !strings.Contains(string(body), "[+]"+part+" ok") {
						return fmt.Errorf("%d %s", code, body)
					}
				}
				return nil
			})
		}
	}
}

// metrics of API servers and of the store that operators and dashboards look at.
func metrics(t *testing.T, s *stand) {
	st, err := s.root.Status(t.Context(), s.store.Members[0].URL)
	must(t, err)
	for _, x := range s.sides {
		for _, name := range []string{"etcd_request_duration_seconds_count", "etcd_requests_total", "apiserver_storage_objects", "apiserver_storage_size_bytes"} {
			if x.metric(t, name) <= 0 {
				t.Errorf("%s has no %s", x.name, name)
			}
		}
		if n := x.metric(t, "apiserver_watch_cache_storage_consistency_checks_total", `status="failure"`); n != 0 {
			t.Errorf("%s: %v checks found a watch cache that is not what is stored", x.name, n)
		}
		t.Logf("%s: apiserver_storage_size_bytes %.0f (the store says %d, %d in use), %.0f requests to the store, %.2f ms each, %.0f failed", x.name,
			x.metric(t, "apiserver_storage_size_bytes"), st.DbSize, st.DbSizeInUse, x.metric(t, "etcd_requests_total"),
			1000*x.metric(t, "etcd_request_duration_seconds_sum")/x.metric(t, "etcd_request_duration_seconds_count"), x.metric(t, "etcd_request_errors_total"))
	}
	config, err := s.store.TLS()
	must(t, err)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	resp, err := client.Get(s.store.Members[0].URL + "/metrics")
	must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	for _, name := range []string{"etcd_mvcc_db_total_size_in_bytes", "etcd_mvcc_db_total_size_in_use_in_bytes", "etcd_server_has_leader",
		"etcd_debugging_mvcc_watcher_total", "etcd_server_quota_backend_bytes", "etcd_disk_wal_fsync_duration_seconds_count"} {
		if sample(t, string(text), name) <= 0 {
			t.Errorf("the store has no %s", name)
		}
	}
}
