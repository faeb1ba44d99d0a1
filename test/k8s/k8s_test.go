// Package k8s runs the storage layer of the Kubernetes API server on top of Quorate: its own published conformance tests,
// and real Pods in protobuf. It has a go.mod of its own because of what that layer depends on.
//
// It is not a test of Kubernetes. Each test starts a fresh Quorate process.
package k8s

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/apitesting"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
	"k8s.io/apiserver/pkg/storage/value/encrypt/identity"
	"k8s.io/utils/clock"

	"quorate.dev/quorate/internal/freeport"
)

var binary = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv("QUORATE_BIN"); bin != "" {
		return bin, nil
	}
	dir, err := os.MkdirTemp("", "quorate-k8s-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "quorate")
	cmd := exec.Command("go", "build", "-o", bin, "./cmd/quorate")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

// TestMain removes the binary that the tests built.
func TestMain(m *testing.M) {
	code := m.Run()
	if bin, err := binary(); err == nil && os.Getenv("QUORATE_BIN") == "" {
		os.RemoveAll(filepath.Dir(bin))
	}
	os.Exit(code)
}

// startServer runs a fresh server and returns a client of it.
func startServer(t *testing.T) *kubernetes.Client {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + freeport.Address(t)
	logFile, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "serve", "--data-dir", filepath.Join(t.TempDir(), "data"), "--listen-client-urls", url,
		"--advertise-client-urls", url, "--listen-peer-urls", "http://"+freeport.Address(t), "--watch-progress-notify-interval", "1s")
	cmd.Stdout, cmd.Stderr = logFile, logFile
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		logFile.Close()
		if t.Failed() {
			text, _ := os.ReadFile(logFile.Name())
			t.Logf("the server's log:\n%s", text[max(0, len(text)-4000):])
		}
	})
	deadline := time.After(2 * time.Minute)
	for poll := time.NewTicker(10 * time.Millisecond); ; {
		select {
		case <-deadline:
			t.Fatal("the server was not healthy in time")
		case <-poll.C:
		}
		if resp, err := http.Get(url + "/health"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				poll.Stop()
				break
			}
		}
	}
	client, err := kubernetes.New(clientv3.Config{Endpoints: []string{url}, DialTimeout: 2 * time.Minute, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// kind is one resource that a store holds.
type kind struct {
	codec         runtime.Codec
	new, newList  func() runtime.Object
	groupResource schema.GroupResource
}

func newStore(t *testing.T, client *kubernetes.Client, k kind) storage.Interface {
	t.Helper()
	versioner := storage.APIObjectVersioner{}
	compactor := etcd3.NewCompactor(client.Client, 0, clock.RealClock{}, nil)
	t.Cleanup(compactor.Stop)
	lease := etcd3.NewDefaultLeaseManagerConfig()
	lease.ReuseDurationSeconds = 1
	s, err := etcd3.New(client, compactor, k.codec, k.new, k.newList, "", "/pods/", k.groupResource,
		identity.NewEncryptCheckTransformer(), lease, etcd3.NewDefaultDecoder(k.codec, versioner), versioner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func examplePods() kind {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	for _, add := range []func(*runtime.Scheme) error{example.AddToScheme, examplev1.AddToScheme} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	return kind{
		codec:         apitesting.TestCodec(serializer.NewCodecFactory(scheme), examplev1.SchemeGroupVersion),
		new:           func() runtime.Object { return &example.Pod{} },
		newList:       func() runtime.Object { return &example.PodList{} },
		groupResource: schema.GroupResource{Resource: "pods"},
	}
}

// TestConformance runs the storage layer's published tests, each on a fresh server.
func TestConformance(t *testing.T) {
	type run struct {
		name string
		f    func(ctx context.Context, t *testing.T, s storage.Interface, c *kubernetes.Client)
	}
	plain := func(name string, f func(context.Context, *testing.T, storage.Interface)) run {
		return run{name, func(ctx context.Context, t *testing.T, s storage.Interface, _ *kubernetes.Client) { f(ctx, t, s) }}
	}
	for _, r := range []run{
		plain("CreateWithTTL", storagetesting.RunTestCreateWithTTL),
		plain("CreateWithKeyExist", storagetesting.RunTestCreateWithKeyExist),
		plain("Get", storagetesting.RunTestGet),
		plain("UnconditionalDelete", storagetesting.RunTestUnconditionalDelete),
		plain("ConditionalDelete", storagetesting.RunTestConditionalDelete),
		plain("DeleteWithSuggestion", storagetesting.RunTestDeleteWithSuggestion),
		plain("DeleteWithSuggestionAndConflict", storagetesting.RunTestDeleteWithSuggestionAndConflict),
		plain("DeleteWithConflict", storagetesting.RunTestDeleteWithConflict),
		plain("DeleteWithSuggestionOfDeletedObject", storagetesting.RunTestDeleteWithSuggestionOfDeletedObject),
		plain("ValidateDeletionWithSuggestion", storagetesting.RunTestValidateDeletionWithSuggestion),
		plain("PreconditionalDeleteWithSuggestion", storagetesting.RunTestPreconditionalDeleteWithSuggestion),
		plain("GuaranteedUpdateWithTTL", storagetesting.RunTestGuaranteedUpdateWithTTL),
		plain("GuaranteedUpdateWithConflict", storagetesting.RunTestGuaranteedUpdateWithConflict),
		plain("GuaranteedUpdateWithSuggestionAndConflict", storagetesting.RunTestGuaranteedUpdateWithSuggestionAndConflict),
		plain("ListPaging", storagetesting.RunTestListPaging),
		plain("GetListRecursivePrefix", storagetesting.RunTestGetListRecursivePrefix),
		plain("KeySchema", storagetesting.RunTestKeySchema),
		plain("NamespaceScopedList", storagetesting.RunTestNamespaceScopedList),
		plain("Watch", storagetesting.RunTestWatch),
		plain("ClusterScopedWatch", storagetesting.RunTestClusterScopedWatch),
		plain("NamespaceScopedWatch", storagetesting.RunTestNamespaceScopedWatch),
		plain("DeleteTriggerWatch", storagetesting.RunTestDeleteTriggerWatch),
		plain("WatchFromNonZero", storagetesting.RunTestWatchFromNonZero),
		plain("DelayedWatchDelivery", storagetesting.RunTestDelayedWatchDelivery),
		plain("WatchContextCancel", storagetesting.RunTestWatchContextCancel),
		plain("WatcherTimeout", storagetesting.RunTestWatcherTimeout),
		plain("WatchDeleteEventObjectHaveLatestRV", storagetesting.RunTestWatchDeleteEventObjectHaveLatestRV),
		plain("WatchInitializationSignal", storagetesting.RunTestWatchInitializationSignal),
		plain("WatchSemantics", storagetesting.RunWatchSemantics),
		plain("WatchSemanticInitialEventsExtended", storagetesting.RunWatchSemanticInitialEventsExtended),
		{"WatchFromZero", func(ctx context.Context, t *testing.T, s storage.Interface, c *kubernetes.Client) {
			storagetesting.RunTestWatchFromZero(ctx, t, s, compaction(c))
		}},
		{"ListInconsistentContinuation", func(ctx context.Context, t *testing.T, s storage.Interface, c *kubernetes.Client) {
			storagetesting.RunTestListInconsistentContinuation(ctx, t, s, compaction(c))
		}},
		{"GetListNonRecursive", func(ctx context.Context, t *testing.T, s storage.Interface, c *kubernetes.Client) {
			storagetesting.RunTestGetListNonRecursive(ctx, t, increase(c), s)
		}},
		{"ConsistentList", func(ctx context.Context, t *testing.T, s storage.Interface, c *kubernetes.Client) {
			storagetesting.RunTestConsistentList(ctx, t, s, increase(c), false, true, false)
		}},
		{"ProgressNotify", func(ctx context.Context, t *testing.T, s storage.Interface, c *kubernetes.Client) {
			storagetesting.RunOptionalTestProgressNotify(ctx, t, s, increase(c))
		}},
	} {
		t.Run(r.name, func(t *testing.T) {
			client := startServer(t)
			r.f(context.Background(), t, newStore(t, client, examplePods()), client)
		})
	}
}

func compaction(c *kubernetes.Client) storagetesting.Compaction {
	return func(ctx context.Context, t *testing.T, resourceVersion string) {
		rev, err := strconv.ParseInt(resourceVersion, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		var seen int64
		if seen, _, _, err = etcd3.Compact(ctx, c.Client, seen, rev); err != nil {
			t.Fatal(err)
		}
		// The first call may only have learned the version of the compaction key; the second compacts.
		if _, _, _, err = etcd3.Compact(ctx, c.Client, seen, rev); err != nil {
			t.Logf("the second compaction to %d says: %v", rev, err)
		}
	}
}

func increase(c *kubernetes.Client) storagetesting.IncreaseRVFunc {
	return func(ctx context.Context, t *testing.T) int64 {
		resp, err := c.KV.Put(ctx, "increaseRV", "ok")
		if err != nil {
			t.Fatal(err)
		}
		return resp.Header.Revision
	}
}

func corePods(t *testing.T) kind {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	proto := protobuf.NewSerializer(scheme, scheme)
	return kind{
		codec:         serializer.NewCodecFactory(scheme).CodecForVersions(proto, proto, corev1.SchemeGroupVersion, corev1.SchemeGroupVersion),
		new:           func() runtime.Object { return &corev1.Pod{} },
		newList:       func() runtime.Object { return &corev1.PodList{} },
		groupResource: corev1.Resource("pods"),
	}
}

func pod(i int) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("pod-%04d", i), Namespace: "default", Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{NodeName: fmt.Sprintf("node-%d", i%7), Containers: []corev1.Container{{
			Name: "main", Image: "registry.example/web:1", Env: []corev1.EnvVar{{Name: "N", Value: strconv.Itoa(i)}},
		}}},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
}

func podKey(i int) string { return fmt.Sprintf("/pods/default/pod-%04d", i) }

// TestRealPods creates, updates, lists in pages, watches and deletes real Pods in protobuf.
func TestRealPods(t *testing.T) {
	const pods, page = 700, 100
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	client := startServer(t)
	s := newStore(t, client, corePods(t))

	w, err := s.Watch(ctx, "/pods/default/", storage.ListOptions{ResourceVersion: "1", Recursive: true, Predicate: storage.Everything, ProgressNotify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for i := range pods {
		if err := s.Create(ctx, podKey(i), pod(i), &corev1.Pod{}, 0); err != nil {
			t.Fatal(err)
		}
	}
	for i := 0; i < pods; i += 2 {
		if err := s.GuaranteedUpdate(ctx, podKey(i), &corev1.Pod{}, false, nil, storage.SimpleUpdate(func(o runtime.Object) (runtime.Object, error) {
			p := o.(*corev1.Pod)
			p.Status.Phase = corev1.PodRunning
			return p, nil
		}), nil); err != nil {
			t.Fatal(err)
		}
	}
	listInPages(ctx, t, s, pods, page)
	name := types("pod-0001")
	var gone corev1.Pod
	if err := s.Delete(ctx, podKey(1), &gone, name, storage.ValidateAllObjectFunc, nil, storage.DeleteOptions{}); err == nil {
		t.Fatal("a delete with a wrong UID went through")
	}
	if err := s.Delete(ctx, podKey(1), &gone, nil, storage.ValidateAllObjectFunc, nil, storage.DeleteOptions{}); err != nil || gone.Name != "pod-0001" {
		t.Fatalf("delete answered %v and %q", err, gone.Name)
	}
	expectEvents(ctx, t, w, pods, pods/2, 1)
	if rv, err := s.GetCurrentResourceVersion(ctx); err != nil || rv < pods+pods/2+1 {
		t.Fatalf("the current resource version is %d, %v", rv, err)
	}
	if err := s.RequestWatchProgress(ctx); err != nil {
		t.Fatal(err)
	}
}

// types makes the precondition that no object fulfils.
func types(uid string) *storage.Preconditions {
	return storage.NewUIDPreconditions(uid)
}

func listInPages(ctx context.Context, t *testing.T, s storage.Interface, pods, page int) {
	t.Helper()
	seen, pages, version := 0, 0, ""
	for from := ""; ; pages++ {
		pred := storage.Everything
		pred.Limit, pred.Continue = int64(page), from
		var list corev1.PodList
		if err := s.GetList(ctx, "/pods/default/", storage.ListOptions{Recursive: true, Predicate: pred}, &list); err != nil {
			t.Fatal(err)
		}
		for _, p := range list.Items {
			want := corev1.PodPending
			if seen%2 == 0 {
				want = corev1.PodRunning
			}
			if p.Name != fmt.Sprintf("pod-%04d", seen) || p.Status.Phase != want || p.Spec.Containers[0].Env[0].Value != strconv.Itoa(seen) {
				t.Fatalf("pod %d of the list is %s, %s", seen, p.Name, p.Status.Phase)
			}
			seen++
		}
		if version != "" && list.ResourceVersion != version {
			t.Fatalf("page %d is at version %s, the first was at %s", pages, list.ResourceVersion, version)
		}
		version = list.ResourceVersion
		if from = list.Continue; from == "" {
			break
		}
		if left := list.RemainingItemCount; left == nil || *left != int64(pods-seen) {
			t.Fatalf("after %d of %d pods the list says %v remain", seen, pods, left)
		}
	}
	if seen != pods {
		t.Fatalf("%d pods in pages, want %d", seen, pods)
	}
}

func expectEvents(ctx context.Context, t *testing.T, w watch.Interface, added, modified, deleted int) {
	t.Helper()
	counts, last := map[watch.EventType]int{}, int64(0)
	for counts[watch.Added] < added || counts[watch.Modified] < modified || counts[watch.Deleted] < deleted {
		select {
		case <-ctx.Done():
			t.Fatalf("events so far: %v", counts)
		case ev := <-w.ResultChan():
			p, ok := ev.Object.(*corev1.Pod)
			if !ok {
				t.Fatalf("event %v", ev)
			}
			rv, err := strconv.ParseInt(p.ResourceVersion, 10, 64)
			if err != nil || rv < last {
				t.Fatalf("event at version %s after %d", p.ResourceVersion, last)
			}
			last = rv
			counts[ev.Type]++
		}
	}
}
