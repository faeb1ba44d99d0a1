package serving

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	applycore "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/utils/ptr"
)

// changes: create, update, conflicts.
func changes(t *testing.T, s *stand) {
	s.both(t, func(t *testing.T, x *side, ns string) {
		ctx, maps := t.Context(), x.CoreV1().ConfigMaps(ns)
		first, err := maps.Create(ctx, configMap("one", "a", "1"), metav1.CreateOptions{})
		must(t, err)
		if v := s.stored(t, "configmaps/"+ns+"/one"); !bytes.HasPrefix(v, []byte("k8s\x00")) {
			t.Errorf("stored as %.20q, which is not protobuf", v)
		}
		_, err = maps.Create(ctx, configMap("one"), metav1.CreateOptions{})
		refused(t, "to create it again", err, apierrors.IsAlreadyExists)

		next := first.DeepCopy()
		next.Data["a"] = "2"
		second, err := maps.Update(ctx, next, metav1.UpdateOptions{})
		must(t, err)
		if version(t, second) <= version(t, first) {
			t.Errorf("version %s after %s", second.ResourceVersion, first.ResourceVersion)
		}
		_, err = maps.Update(ctx, next, metav1.UpdateOptions{})
		refused(t, "an update of what it is no more", err, apierrors.IsConflict)
		same, err := maps.Update(ctx, second, metav1.UpdateOptions{})
		must(t, err)
		if same.ResourceVersion != second.ResourceVersion {
			t.Errorf("an update that changes nothing wrote revision %s", same.ResourceVersion)
		}
		resp, err := s.root.Get(ctx, "/registry/configmaps/"+ns+"/one")
		must(t, err)
		if kv := resp.Kvs[0]; fmt.Sprint(kv.ModRevision) != second.ResourceVersion || fmt.Sprint(kv.CreateRevision) != first.ResourceVersion || kv.Version != 2 {
			t.Errorf("the store has %d, %d, version %d; the API %s", kv.CreateRevision, kv.ModRevision, kv.Version, second.ResourceVersion)
		}
		_, err = maps.Update(ctx, configMap("two"), metav1.UpdateOptions{})
		refused(t, "an update of nothing", err, apierrors.IsNotFound)
		_, err = maps.Create(ctx, configMap("three"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		must(t, err)
		_, err = maps.Get(ctx, "three", metav1.GetOptions{})
		refused(t, "what was created for trial", err, apierrors.IsNotFound)
	})
}

// contended: many change one object, and none is lost.
func contended(t *testing.T, s *stand) {
	ns := namespace(t, s.direct())
	_, err := s.direct().CoreV1().ConfigMaps(ns).Create(t.Context(), configMap("sum", "n", "0"), metav1.CreateOptions{})
	must(t, err)
	const n = 80
	inParallel(t, n, func(ctx context.Context, i int) error {
		maps := s.sides[i%2].CoreV1().ConfigMaps(ns)
		for {
			m, err := maps.Get(ctx, "sum", metav1.GetOptions{})
			if err != nil {
				return err
			}
			var sum int
			fmt.Sscan(m.Data["n"], &sum)
			m.Data["n"] = fmt.Sprint(sum + 1)
			if _, err = maps.Update(ctx, m, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
				return err
			}
		}
	})
	m, err := s.cached().CoreV1().ConfigMaps(ns).Get(t.Context(), "sum", metav1.GetOptions{})
	must(t, err)
	if m.Data["n"] != fmt.Sprint(n) {
		t.Errorf("%d additions through two API servers made %s", n, m.Data["n"])
	}
}

// patches of every kind.
func patches(t *testing.T, s *stand) {
	s.both(t, func(t *testing.T, x *side, ns string) {
		ctx, maps := t.Context(), x.CoreV1().ConfigMaps(ns)
		_, err := maps.Create(ctx, configMap("one", "a", "1", "b", "1"), metav1.CreateOptions{})
		must(t, err)
		want := func(err error, m *corev1.ConfigMap, data map[string]string) {
			t.Helper()
			must(t, err)
			if fmt.Sprint(m.Data) != fmt.Sprint(data) {
				t.Errorf("%v, want %v", m.Data, data)
			}
		}
		m, err := maps.Patch(ctx, "one", types.MergePatchType, []byte(`{"data":{"a":null,"c":"1"}}`), metav1.PatchOptions{})
		want(err, m, map[string]string{"b": "1", "c": "1"})
		m, err = maps.Patch(ctx, "one", types.StrategicMergePatchType, []byte(`{"data":{"$retainKeys":["c","d"],"d":"1"}}`), metav1.PatchOptions{})
		must(t, err)
		m, err = maps.Patch(ctx, "one", types.JSONPatchType, []byte(`[{"op":"replace","path":"/data","value":{"e":"1"}},{"op":"test","path":"/data/e","value":"1"}]`), metav1.PatchOptions{})
		want(err, m, map[string]string{"e": "1"})
		_, err = maps.Patch(ctx, "one", types.JSONPatchType, []byte(`[{"op":"test","path":"/data/e","value":"2"},{"op":"remove","path":"/data/e"}]`), metav1.PatchOptions{})
		refused(t, "a test that fails", err, apierrors.IsInvalid)
		_, err = maps.Patch(ctx, "one", types.MergePatchType, []byte(`{"metadata":{"resourceVersion":"1"},"data":{"a":"1"}}`), metav1.PatchOptions{})
		refused(t, "a patch of what it is no more", err, apierrors.IsConflict)

		apply := func(manager, key, value string, force bool) (*corev1.ConfigMap, error) {
			return maps.Apply(ctx, applycore.ConfigMap("two", ns).WithData(map[string]string{key: value}), metav1.ApplyOptions{FieldManager: manager, Force: force})
		}
		m, err = apply("alice", "a", "1", false)
		want(err, m, map[string]string{"a": "1"})
		m, err = apply("bob", "b", "2", false)
		want(err, m, map[string]string{"a": "1", "b": "2"})
		_, err = apply("bob", "a", "2", false)
		refused(t, "to apply to what another one owns", err, apierrors.IsConflict, "alice")
		m, err = apply("bob", "a", "2", true)
		want(err, m, map[string]string{"a": "2"})
		if len(m.ManagedFields) != 1 {
			t.Errorf("after bob took all of it: %v", m.ManagedFields)
		}
	})
}

// deletions: with conditions, with a finalizer, of what others depend on, of many.
func deletions(t *testing.T, s *stand) {
	s.both(t, func(t *testing.T, x *side, ns string) {
		ctx, maps := t.Context(), x.CoreV1().ConfigMaps(ns)
		create := func(m *corev1.ConfigMap) *corev1.ConfigMap {
			t.Helper()
			m, err := maps.Create(ctx, m, metav1.CreateOptions{})
			must(t, err)
			return m
		}
		gone := func(name string) error {
			if _, err := maps.Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				return fmt.Errorf("%s is there: %v", name, err)
			}
			return nil
		}
		m := create(configMap("one"))
		err := maps.Delete(ctx, "one", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: ptr.To(types.UID("other"))}})
		refused(t, "to delete another one", err, apierrors.IsConflict)
		err = maps.Delete(ctx, "one", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: ptr.To("1")}})
		refused(t, "to delete what it is no more", err, apierrors.IsConflict)
		must(t, maps.Delete(ctx, "one", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &m.UID, ResourceVersion: &m.ResourceVersion}}))
		must(t, gone("one"))
		refused(t, "to delete it again", maps.Delete(ctx, "one", metav1.DeleteOptions{}), apierrors.IsNotFound)

		held := configMap("held")
		held.Finalizers = []string{"quorate.dev/hold"}
		create(held)
		must(t, maps.Delete(ctx, "held", metav1.DeleteOptions{}))
		held, err = maps.Get(ctx, "held", metav1.GetOptions{})
		must(t, err)
		if held.DeletionTimestamp == nil {
			t.Error("it is not marked as being deleted")
		}
		held.Finalizers = nil
		_, err = maps.Update(ctx, held, metav1.UpdateOptions{})
		must(t, err)
		must(t, gone("held"))

		for _, policy := range []metav1.DeletionPropagation{metav1.DeletePropagationForeground, metav1.DeletePropagationBackground} {
			owner := create(configMap("owner"))
			for i := range 3 {
				child := configMap(fmt.Sprintf("child-%d", i))
				child.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID, BlockOwnerDeletion: ptr.To(true)}}
				create(child)
			}
			must(t, maps.Delete(ctx, "owner", metav1.DeleteOptions{PropagationPolicy: &policy}))
			eventually(t, "the owner and its own are deleted: "+string(policy), func() error {
				ownerGone := gone("owner")
				for i := range 3 {
					if err := gone(fmt.Sprintf("child-%d", i)); err != nil {
						if policy == metav1.DeletePropagationForeground && ownerGone == nil {
							t.Errorf("the owner went before child-%d", i)
						}
						return err
					}
				}
				return ownerGone
			})
		}

		fill(t, x, ns, 40)
		must(t, maps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "tenth=true"}))
		l, err := maps.List(ctx, metav1.ListOptions{LabelSelector: "tenth"})
		must(t, err)
		if len(l.Items) != 36 {
			t.Errorf("%d of 40 are left after 4 were deleted", len(l.Items))
		}
	})
}
