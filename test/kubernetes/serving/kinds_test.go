package serving

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/ptr"
)

const group = "test.quorate.dev"

// define makes a custom resource and waits until all API servers serve it.
func (s *stand) define(t *testing.T, plural string, versions ...string) {
	t.Helper()
	client, err := apiextensions.NewForConfig(s.cached().config)
	must(t, err)
	title := strings.ToUpper(plural[:1]) + plural[1:len(plural)-1]
	d := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: plural + "." + group}, Spec: apiextensionsv1.CustomResourceDefinitionSpec{
		Group: group, Scope: apiextensionsv1.NamespaceScoped,
		Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: plural, Singular: plural[:len(plural)-1], Kind: title, ListKind: title + "List"},
	}}
	for i, v := range versions {
		d.Spec.Versions = append(d.Spec.Versions, apiextensionsv1.CustomResourceDefinitionVersion{Name: v, Served: true, Storage: i == 0,
			Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}},
			Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: ptr.To(true),
				Properties: map[string]apiextensionsv1.JSONSchemaProps{"size": {Type: "integer", Maximum: ptr.To(10.0)}}}}})
	}
	_, err = client.ApiextensionsV1().CustomResourceDefinitions().Create(t.Context(), d, metav1.CreateOptions{})
	must(t, err)
	for _, x := range s.sides {
		eventually(t, x.name+" serves "+plural, func() error {
			_, err := x.custom(plural, versions[0], "default").List(t.Context(), metav1.ListOptions{})
			return err
		})
	}
}

func (x *side) custom(plural, version, ns string) dynamic.ResourceInterface {
	return x.dynamic.Resource(schema.GroupVersionResource{Group: group, Version: version, Resource: plural}).Namespace(ns)
}

func custom(kind, name string, fields ...any) *unstructured.Unstructured {
	o := map[string]any{"apiVersion": group + "/v1", "kind": kind, "metadata": map[string]any{"name": name}}
	for i := 0; i < len(fields); i += 2 {
		o[fields[i].(string)] = fields[i+1]
	}
	return &unstructured.Unstructured{Object: o}
}

// customResources are stored as JSON.
func customResources(t *testing.T, s *stand) {
	s.define(t, "widgets", "v1")
	s.both(t, func(t *testing.T, x *side, ns string) {
		ctx, widgets := t.Context(), x.custom("widgets", "v1", ns)
		o, err := widgets.Create(ctx, custom("Widget", "one", "size", int64(1)), metav1.CreateOptions{})
		must(t, err)
		if v := s.stored(t, group+"/widgets/"+ns+"/one"); !bytes.HasPrefix(v, []byte(`{"apiVersion":"test.quorate.dev/v1"`)) {
			t.Errorf("stored as %.60q, which is not JSON", v)
		}
		w, err := widgets.Watch(ctx, metav1.ListOptions{ResourceVersion: o.GetResourceVersion()})
		must(t, err)
		defer w.Stop()
		_, err = widgets.Create(ctx, custom("Widget", "two", "size", int64(11)), metav1.CreateOptions{})
		refused(t, "what its schema does not allow", err, apierrors.IsInvalid)
		o, err = widgets.Patch(ctx, "one", types.MergePatchType, []byte(`{"size":2}`), metav1.PatchOptions{})
		must(t, err)
		must(t, unstructured.SetNestedField(o.Object, "good", "status", "is"))
		_, err = widgets.UpdateStatus(ctx, o, metav1.UpdateOptions{})
		must(t, err)
		must(t, widgets.Delete(ctx, "one", metav1.DeleteOptions{}))
		for _, want := range []watch.EventType{watch.Modified, watch.Modified, watch.Deleted} {
			if e := next(t, w); e.Type != want {
				t.Errorf("%v %v, want %v", e.Type, e.Object, want)
			}
		}
	})
}

// large objects: up to what one request to the store may have, 1.5 MiB, and not a byte more; what is refused has left nothing.
func large(t *testing.T, s *stand) {
	s.define(t, "heaps", "v1")
	x := s.direct()
	ns := namespace(t, x)
	heaps := x.custom("heaps", "v1", ns)
	write := func(size int) error {
		_, err := heaps.Create(t.Context(), custom("Heap", "one", "text", strings.Repeat("x", size)), metav1.CreateOptions{})
		if err == nil {
			var o *unstructured.Unstructured
			o, err = s.cached().custom("heaps", "v1", ns).Get(t.Context(), "one", metav1.GetOptions{})
			must(t, err)
			if text, _, _ := unstructured.NestedString(o.Object, "text"); len(text) != size {
				t.Errorf("%d bytes came back of %d", len(text), size)
			}
			must(t, heaps.Delete(t.Context(), "one", metav1.DeleteOptions{}))
			return nil
		}
		if _, gerr := heaps.Get(t.Context(), "one", metav1.GetOptions{}); !apierrors.IsNotFound(gerr) {
			t.Errorf("a refused object is there: %v", gerr)
		}
		return err
	}
	const limit = 3 << 19
	low, high := limit-8<<10, limit
	must(t, write(low))
	err := write(high)
	refused(t, "1.5 MiB in one field", err, func(error) bool { return true }, "etcdserver: request is too large")
	for high-low > 1 {
		if middle := (low + high) / 2; write(middle) == nil {
			low = middle
		} else {
			high = middle
		}
	}
	t.Logf("the largest field that one object can have is %d bytes, %d less than 1.5 MiB; then: %v", low, limit-low, err)
	t.Logf("with 2.5 MB: %v", write(2_500_000))
	t.Logf("with 4 MB: %v", write(4_000_000))
	_, err = x.CoreV1().ConfigMaps(ns).Create(t.Context(), configMap("one", "a", strings.Repeat("y", 1<<20-1)), metav1.CreateOptions{})
	must(t, err)
}

// events are stored with leases that several of them share, are watched at the store, and go when their time is over.
func events(t *testing.T, s *stand) {
	s.both(t, func(t *testing.T, x *side, ns string) {
		ctx, events := t.Context(), x.CoreV1().Events(ns)
		l, err := events.List(ctx, metav1.ListOptions{})
		must(t, err)
		w, err := events.Watch(ctx, metav1.ListOptions{ResourceVersion: l.ResourceVersion})
		must(t, err)
		defer w.Stop()
		const n = 20
		leases := map[int64]bool{}
		for i := range n {
			_, err := events.Create(ctx, &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("e-%d", i)}, Reason: "Test", Message: "it goes away",
				InvolvedObject: corev1.ObjectReference{Kind: "Namespace", Namespace: ns, Name: ns}}, metav1.CreateOptions{})
			must(t, err)
			resp, err := s.root.Get(ctx, fmt.Sprintf("/registry/events/%s/e-%d", ns, i))
			must(t, err)
			if len(resp.Kvs) != 1 || resp.Kvs[0].Lease == 0 {
				t.Fatalf("event %d is stored as %v, want one key with a lease", i, resp.Kvs)
			}
			leases[resp.Kvs[0].Lease] = true
		}
		begin := time.Now()
		count := map[watch.EventType]int{}
		for count[watch.Deleted] < n {
			count[next(t, w).Type]++
		}
		if count[watch.Added] != n || len(count) != 2 {
			t.Errorf("%v, want %d of either", count, n)
		}
		l, err = events.List(ctx, metav1.ListOptions{})
		must(t, err)
		if len(l.Items) != 0 {
			t.Errorf("%d are left", len(l.Items))
		}
		t.Logf("%d events with %d leases were all gone %.1f s after the last was created", n, len(leases), time.Since(begin).Seconds())
	})
}

// cascade: with a namespace goes what is in it.
func cascade(t *testing.T, s *stand) {
	s.define(t, "things", "v1")
	x := s.cached()
	ns := namespace(t, x)
	fill(t, x, ns, 100)
	inParallel(t, 30, func(ctx context.Context, i int) error {
		_, err := x.custom("things", "v1", ns).Create(ctx, custom("Thing", fmt.Sprintf("t-%d", i)), metav1.CreateOptions{})
		return err
	})
	must(t, x.CoreV1().Namespaces().Delete(t.Context(), ns, metav1.DeleteOptions{}))
	_, err := x.CoreV1().ConfigMaps(ns).Create(t.Context(), configMap("late"), metav1.CreateOptions{})
	refused(t, "to create in a namespace that ends", err, func(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsNotFound(err) })
	eventually(t, "the namespace is gone", func() error {
		_, err := s.direct().CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is there: %v", err)
	})
	for _, prefix := range []string{"configmaps/", group + "/things/"} {
		if n := s.count(t, prefix+ns+"/"); n != 0 {
			t.Errorf("%d keys of %s are left", n, prefix)
		}
	}
}

// elections: of candidates on both API servers one holds a Lease, and another one takes over when it lets go.
func elections(t *testing.T, s *stand) {
	ns := namespace(t, s.cached())
	var terms atomic.Int32
	begin := func(i int) context.CancelFunc {
		x := s.sides[i%2]
		ctx, cancel := context.WithCancel(t.Context())
		lock := &resourcelock.LeaseLock{LeaseMeta: metav1.ObjectMeta{Namespace: ns, Name: "lead"}, Client: x.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: fmt.Sprint(i)}}
		go leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{Lock: lock, ReleaseOnCancel: true,
			LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 500 * time.Millisecond,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) { terms.Add(1) }, OnStoppedLeading: func() {}}})
		return cancel
	}
	var cancels []context.CancelFunc
	for i := range 4 {
		cancels = append(cancels, begin(i))
	}
	for term := range int32(4) {
		eventually(t, fmt.Sprintf("somebody leads for the time %d", term+1), func() error {
			if n := terms.Load(); n <= term {
				return fmt.Errorf("there were %d", n)
			}
			return nil
		})
		l, err := s.cached().CoordinationV1().Leases(ns).Get(t.Context(), "lead", metav1.GetOptions{})
		must(t, err)
		var leader int
		fmt.Sscan(ptr.Deref(l.Spec.HolderIdentity, ""), &leader)
		cancels[leader]()
	}
}
