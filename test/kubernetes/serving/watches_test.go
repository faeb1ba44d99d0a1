package serving

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"
)

// next returns the next event of a watch.
func next(t *testing.T, w watch.Interface) watch.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case e, ok := <-w.ResultChan():
		if !ok {
			t.Fatal("the watch ended")
		}
		return e
	case <-ctx.Done():
		t.Fatalf("no event within %v", patience)
	}
	panic("unreachable")
}

// fromRevision: every event after a resource version, in order, once.
func fromRevision(t *testing.T, s *stand) {
	s.both(t, func(t *testing.T, x *side, ns string) {
		ctx, maps := t.Context(), x.CoreV1().ConfigMaps(ns)
		l, err := maps.List(ctx, metav1.ListOptions{})
		must(t, err)
		var want []string
		write := func(from, to int) {
			for i := from; i < to; i++ {
				name := fmt.Sprintf("o-%d", i)
				m, err := maps.Create(ctx, configMap(name, "a", "1"), metav1.CreateOptions{})
				must(t, err)
				m.Data["a"] = "2"
				m, err = maps.Update(ctx, m, metav1.UpdateOptions{})
				must(t, err)
				must(t, maps.Delete(ctx, name, metav1.DeleteOptions{}))
				want = append(want, "ADDED "+name, "MODIFIED "+name, "DELETED "+name)
			}
		}
		write(0, 10) // in the past of the watch
		w, err := maps.Watch(ctx, metav1.ListOptions{ResourceVersion: l.ResourceVersion, FieldSelector: "metadata.name!=kube-root-ca.crt"})
		must(t, err)
		defer w.Stop()
		write(10, 20)
		last := version(t, l)
		for i, event := range want {
			e := next(t, w)
			m, ok := e.Object.(*corev1.ConfigMap)
			if !ok {
				t.Fatalf("event %d: %v %v", i, e.Type, e.Object)
			}
			if got := fmt.Sprint(e.Type, " ", m.Name); got != event {
				t.Fatalf("event %d is %s, want %s", i, got, event)
			}
			if v := version(t, m); v <= last {
				t.Fatalf("event %d at %d after %d", i, v, last)
			} else {
				last = v
			}
			if value := m.Data["a"]; e.Type == watch.Added && value != "1" || e.Type != watch.Added && value != "2" {
				t.Errorf("event %d shows %s", i, value)
			}
		}
	})
}

// bookmarks come without events, with the revision up to which a watch is complete.
func bookmarks(t *testing.T, s *stand) {
	x := s.cached()
	ns := namespace(t, x)
	l, err := x.CoreV1().Secrets(ns).List(t.Context(), metav1.ListOptions{})
	must(t, err)
	// Two seconds before its time is over a watch gets one, for who resumes it. A machine that stands still may miss them.
	for _, seconds := range []int64{8, 30, 90} {
		w, err := x.CoreV1().Secrets(ns).Watch(t.Context(), metav1.ListOptions{ResourceVersion: l.ResourceVersion, AllowWatchBookmarks: true, TimeoutSeconds: &seconds})
		must(t, err)
		_, err = x.CoreV1().ConfigMaps(ns).Create(t.Context(), configMap(fmt.Sprintf("elsewhere-%d", seconds)), metav1.CreateOptions{})
		must(t, err)
		e, ok := <-w.ResultChan()
		w.Stop()
		if ok && (e.Type != watch.Bookmark || version(t, e.Object) < version(t, l)) {
			t.Errorf("%v %v, want a bookmark after %s", e.Type, e.Object, l.ResourceVersion)
		}
		if ok {
			return
		}
	}
	t.Error("no bookmark came")
}

// watchList: a watch that begins with all there is and says where that ends, no older than what was written elsewhere before.
func watchList(t *testing.T, s *stand) {
	s.both(t, func(t *testing.T, x *side, ns string) {
		const n = 60
		fill(t, s.direct(), ns, n)
		for round := range 5 {
			m, err := s.direct().CoreV1().ConfigMaps(ns).Create(t.Context(), configMap(fmt.Sprintf("extra-%d", round)), metav1.CreateOptions{})
			must(t, err)
			w, err := x.CoreV1().ConfigMaps(ns).Watch(t.Context(), metav1.ListOptions{SendInitialEvents: ptr.To(true), AllowWatchBookmarks: true,
				ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan})
			must(t, err)
			var names []string
			for {
				e := next(t, w)
				c, ok := e.Object.(*corev1.ConfigMap)
				if !ok {
					t.Fatalf("%v %v", e.Type, e.Object)
				}
				if e.Type == watch.Bookmark {
					if c.Annotations[metav1.InitialEventsAnnotationKey] != "true" || version(t, c) < version(t, m) {
						t.Errorf("the bookmark is of %s with %v; written before was %s", c.ResourceVersion, c.Annotations, m.ResourceVersion)
					}
					break
				}
				if e.Type != watch.Added {
					t.Errorf("%v before the end of what is there", e.Type)
				}
				if !strings.HasPrefix(c.Name, "kube-root") {
					names = append(names, c.Name)
				}
			}
			slices.Sort(names)
			if len(slices.Compact(names)) != n+round+1 {
				t.Errorf("it began with %d, want %d: %v", len(names), n+round+1, names)
			}
			w.Stop()
		}
	})
}

// expired says whether a watch is, at once or with its first event, of a revision that is gone.
func expired(t *testing.T, w watch.Interface, err error) error {
	t.Helper()
	if err == nil {
		defer w.Stop()
		e := next(t, w)
		if e.Type != watch.Error {
			return fmt.Errorf("it began with %v %v", e.Type, e.Object)
		}
		err = apierrors.FromObject(e.Object)
	}
	if !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
		return err
	}
	return nil
}
