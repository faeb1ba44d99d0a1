package serving

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"quorate.dev/quorate/test/compat/proc"
	k8s "quorate.dev/quorate/test/kubernetes"
)

var (
	storeName = flag.String("store", "quorate", "what the API servers run on: quorate, or etcd, the judge")
	keep      = flag.String("keep", "", "directory in which logs of a failed run stay")
)

// patience is how long what must happen may take on a machine that is busy with other things.
const patience = 3 * time.Minute

func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "32") // steps mostly wait
	// API servers then end when they find that a watch cache is not what the store holds; they look now and then.
	os.Setenv("KUBE_WATCHCACHE_CONSISTENCY_CHECKER", "true")
	klog.LogToStderr(false) // clients say what they do; the steps say what matters of it
	klog.SetOutput(io.Discard)
	code := m.Run()
	proc.Cleanup()
	os.Exit(code)
}

func kind(t *testing.T) proc.Kind {
	switch *storeName {
	case "quorate":
		return proc.Quorate
	case "etcd":
		return proc.Etcd
	}
	t.Fatalf("-store=%s: there are quorate and etcd", *storeName)
	return 0
}

// stand is a control plane on a store.
type stand struct {
	dir     string
	plane   *k8s.Plane
	storeCA *k8s.CA // of all stores
	store   *k8s.StoreCluster
	root    *clientv3.Client // past the API, to see what is stored
	sides   []*side
}

// side is an API server and clients of it.
type side struct {
	name string
	api  *k8s.APIServer
	*kubernetes.Clientset
	dynamic dynamic.Interface
	config  *rest.Config
	http    *http.Client
}

// newStand starts a protected store of so many members.
func newStand(t *testing.T, members int, flags ...string) *stand {
	s := &stand{dir: t.TempDir()}
	var err error
	s.plane, err = k8s.NewPlane(filepath.Join(s.dir, "plane"))
	must(t, err)
	s.storeCA, err = k8s.NewCA(s.dir, "store-ca")
	must(t, err)
	s.store = s.protected(t, "store", members, flags...)
	s.root, err = s.store.Client()
	must(t, err)
	t.Cleanup(func() { s.root.Close() })
	t.Cleanup(func() {
		if t.Failed() && *keep != "" {
			must(t, os.CopyFS(filepath.Join(*keep, t.Name()), os.DirFS(s.dir)))
		}
	})
	return s
}

func (s *stand) protected(t *testing.T, name string, members int, flags ...string) *k8s.StoreCluster {
	c, err := k8s.NewStoreCluster(kind(t), s.storeCA, s.dir, name, members, flags...)
	must(t, err)
	t.Cleanup(c.Kill)
	must(t, c.Start(t.Context()))
	must(t, c.Protect(t.Context()))
	return c
}

// encryption is a file that API servers read again when it changes.
func (s *stand) encryption() string { return filepath.Join(s.dir, "encryption.yaml") }

// newSide makes an API server, which is down.
func (s *stand) newSide(t *testing.T, name string, flags ...string) *side {
	api, err := s.plane.NewAPIServer(name, len(s.sides)+1, append([]string{"--storage-media-type=application/vnd.kubernetes.protobuf",
		"--encryption-provider-config=" + s.encryption(), "--encryption-provider-config-automatic-reload", "--event-ttl=20s", "--etcd-db-metric-poll-interval=5s",
		"--feature-gates=StorageVersionMigrator=true", "--runtime-config=storagemigration.k8s.io/v1beta1=true"}, flags...)...)
	must(t, err)
	t.Cleanup(api.Kill)
	x := &side{name: name, api: api, config: s.plane.Config(api.URL())}
	x.config.WarningHandler = rest.NoWarnings{}
	typed := rest.CopyConfig(x.config)
	typed.ContentType = runtime.ContentTypeProtobuf
	x.Clientset, err = kubernetes.NewForConfig(typed)
	must(t, err)
	x.dynamic, err = dynamic.NewForConfig(x.config)
	must(t, err)
	transport, err := rest.TransportFor(x.config)
	must(t, err)
	x.http = &http.Client{Transport: transport, Timeout: patience}
	s.sides = append(s.sides, x)
	return x
}

// startSides starts all API servers.
func (s *stand) startSides(t *testing.T) {
	_, err := k8s.Program("kube-apiserver")
	must(t, err)
	var wg sync.WaitGroup
	errs := make([]error, len(s.sides))
	for i, x := range s.sides {
		wg.Go(func() { errs[i] = x.api.Start(t.Context(), s.store.Store()) })
	}
	wg.Wait()
	for _, err := range errs {
		must(t, err)
	}
}

func (s *stand) cached() *side { return s.sides[0] }
func (s *stand) direct() *side { return s.sides[1] }

// both runs a part of a step on either API server, in a namespace of its own.
func (s *stand) both(t *testing.T, part func(t *testing.T, x *side, ns string)) {
	for _, x := range s.sides {
		t.Run(x.name, func(t *testing.T) { part(t, x, namespace(t, x)) })
	}
}

var namespaces struct {
	sync.Mutex
	n int
}

// namespace makes one.
func namespace(t *testing.T, x *side) string {
	t.Helper()
	namespaces.Lock()
	namespaces.n++
	name := fmt.Sprintf("ns-%03d", namespaces.n) // of one length, for what is bounded with its key
	namespaces.Unlock()
	_, err := x.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	must(t, err)
	return name
}

// settled waits until controllers have put into a namespace what they do.
func settled(t *testing.T, x *side, ns string) {
	t.Helper()
	eventually(t, "controllers have seen the namespace", func() error {
		_, err := x.CoreV1().ConfigMaps(ns).Get(t.Context(), "kube-root-ca.crt", metav1.GetOptions{})
		return err
	})
}

// get returns the body at a path of the API, with its status.
func (x *side) get(t *testing.T, path string, headers ...string) (int, http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, x.api.URL()+path, nil)
	must(t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := x.http.Do(req)
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, resp.Header, body
}

// metric sums the samples of a metric that have all labels, which are written as in the text, such as `resource="pods"`.
func (x *side) metric(t *testing.T, name string, labels ...string) (sum float64) {
	t.Helper()
	_, _, text := x.get(t, "/metrics")
	return sample(t, string(text), name, labels...)
}

func sample(t *testing.T, text, name string, labels ...string) (sum float64) {
	t.Helper()
lines:
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(rest, l) {
				continue lines
			}
		}
		fields := strings.Fields(rest[strings.LastIndex(rest, "}")+1:])
		v, err := strconv.ParseFloat(fields[0], 64)
		must(t, err)
		sum += v
	}
	return sum
}

// stored is what the store holds at /registry/ + path.
func (s *stand) stored(t *testing.T, path string) []byte {
	t.Helper()
	resp, err := s.root.Get(t.Context(), "/registry/"+path)
	must(t, err)
	if len(resp.Kvs) == 0 {
		t.Fatalf("the store has no /registry/%s", path)
	}
	return resp.Kvs[0].Value
}

// revision is the store's.
func (s *stand) revision(t *testing.T) int64 {
	t.Helper()
	resp, err := s.root.Get(t.Context(), "revision")
	must(t, err)
	return resp.Header.Revision
}

// version is the resource version of an object or a list as a number.
func version(t *testing.T, o runtime.Object) int64 {
	t.Helper()
	var text string
	if m, err := meta.Accessor(o); err == nil {
		text = m.GetResourceVersion()
	} else {
		l, err := meta.ListAccessor(o)
		must(t, err)
		text = l.GetResourceVersion()
	}
	n, err := strconv.ParseInt(text, 10, 64)
	must(t, err)
	return n
}

func configMap(name string, data ...string) *corev1.ConfigMap {
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{}}
	for i := 0; i < len(data); i += 2 {
		m.Data[data[i]] = data[i+1]
	}
	return m
}

// fill makes configmaps cm-0000 and so on.
func fill(t *testing.T, x *side, ns string, n int) {
	t.Helper()
	inParallel(t, n, func(ctx context.Context, i int) error {
		m := configMap(fmt.Sprintf("cm-%04d", i), "text", strings.Repeat("0123456789abcdef", 64))
		m.Labels = map[string]string{"tenth": strconv.FormatBool(i%10 == 0)}
		_, err := x.CoreV1().ConfigMaps(ns).Create(ctx, m, metav1.CreateOptions{})
		return err
	})
}

func inParallel(t *testing.T, n int, f func(ctx context.Context, i int) error) {
	t.Helper()
	const workers = 8
	errs := make(chan error, workers)
	for g := range workers {
		go func() {
			for i := g; i < n; i += workers {
				if err := f(t.Context(), i); err != nil {
					errs <- fmt.Errorf("number %d: %w", i, err)
					return
				}
			}
			errs <- nil
		}()
	}
	for range workers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused fails unless err is what is says it is.
func refused(t *testing.T, what string, err error, is func(error) bool, text ...string) {
	t.Helper()
	if err == nil || !is(err) {
		t.Fatalf("%s: %v", what, err)
	}
	for _, part := range text {
		if !strings.Contains(err.Error(), part) {
			t.Fatalf("%s: %v; it should say %q", what, err, part)
		}
	}
}

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("not within %v: %s: %v", patience, what, err)
}
