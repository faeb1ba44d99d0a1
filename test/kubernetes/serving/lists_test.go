package serving

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"
)

// pages: a list in parts is what it was at its first page, with and without selectors.
func pages(t *testing.T, s *stand) {
	s.both(t, func(t *testing.T, x *side, ns string) {
		const n = 230 + 1 // with the one that controllers make
		maps := x.CoreV1().ConfigMaps(ns)
		settled(t, x, ns)
		fill(t, x, ns, 230)
		opts := metav1.ListOptions{Limit: 50}
		var names []string
		var at string
		for page := 0; ; page++ {
			l, err := maps.List(t.Context(), opts)
			must(t, err)
			if page == 0 {
				at = l.ResourceVersion
			}
			for _, m := range l.Items {
				names = append(names, m.Name)
			}
			if l.ResourceVersion != at {
				t.Errorf("page %d is of %s, the first of %s", page, l.ResourceVersion, at)
			}
			if opts.Continue = l.Continue; opts.Continue == "" {
				break
			}
			if r := l.RemainingItemCount; r == nil || *r != int64(n-len(names)) {
				t.Errorf("after %d of %d, %d remain", len(names), n, ptr.Deref(r, -1))
			}
			must(t, maps.Delete(t.Context(), fmt.Sprintf("cm-%04d", 200+page), metav1.DeleteOptions{})) // which the list has not come to
			_, err = maps.Create(t.Context(), configMap(fmt.Sprintf("cm-0210-%d", page)), metav1.CreateOptions{})
			must(t, err)
		}
		if len(names) != n || !slices.IsSorted(names) {
			t.Errorf("%d of %d: %v", len(names), n, names)
		}
		old, err := maps.List(t.Context(), metav1.ListOptions{ResourceVersion: at, ResourceVersionMatch: metav1.ResourceVersionMatchExact})
		must(t, err)
		if len(old.Items) != n {
			t.Errorf("%d of %d at revision %s", len(old.Items), n, at)
		}
		selected := metav1.ListOptions{Limit: 7, LabelSelector: "tenth=true"}
		var tenths int
		for {
			l, err := maps.List(t.Context(), selected)
			must(t, err)
			tenths += len(l.Items)
			if len(l.Items) > 7 {
				t.Errorf("a page of %d", len(l.Items))
			}
			if selected.Continue = l.Continue; selected.Continue == "" {
				break
			}
		}
		if tenths != 22 { // of 23 one was deleted
			t.Errorf("%d with the label, want 22", tenths)
		}
		future := fmt.Sprint(s.revision(t) + 1_000_000)
		path := "/api/v1/namespaces/" + ns + "/configmaps?resourceVersionMatch=NotOlderThan&resourceVersion=" + future
		if code, _, body := x.get(t, path); code != http.StatusGatewayTimeout || !strings.Contains(string(body), "Too large resource version") {
			t.Errorf("a list of the future: %d %s", code, body)
		}
	})
}

// consistent: what was written through another API server is in the next list that asks for the newest, although a watch cache serves it:
// the store is asked for its revision, by a list of one object, and for progress of the watch, and not for the objects.
func consistent(t *testing.T, s *stand) {
	const n = 100
	x := s.cached()
	ns := namespace(t, x)
	create := func(name string) error { // of a kind that nobody else uses
		_, err := s.direct().CoreV1().PodTemplates(ns).Create(t.Context(), &corev1.PodTemplate{ObjectMeta: metav1.ObjectMeta{Name: name},
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}}, metav1.CreateOptions{})
		return err
	}
	_, err := x.CoreV1().PodTemplates(ns).List(t.Context(), metav1.ListOptions{}) // the cache is there then
	must(t, err)
	resource := `resource="podtemplates"`
	value := func(name string, labels ...string) float64 { return x.metric(t, name, append(labels, resource)...) }
	type counts struct{ lists, fetched, consistent, waits, waited float64 }
	count := func() counts {
		return counts{value("apiserver_storage_list_total"), value("apiserver_storage_list_fetched_objects_total"), value("apiserver_watch_cache_consistent_read_total", `success="true"`, `fallback="false"`),
			value("apiserver_watch_cache_read_wait_seconds_count"), value("apiserver_watch_cache_read_wait_seconds_sum")}
	}
	for round := 1; ; round++ {
		was := count()
		for i := range n {
			must(t, create(fmt.Sprintf("pt-%d-%04d", round, i)))
			l, err := x.CoreV1().PodTemplates(ns).List(t.Context(), metav1.ListOptions{})
			must(t, err)
			if len(l.Items) != n*(round-1)+i+1 {
				t.Fatalf("after %d were created the list has %d", n*(round-1)+i+1, len(l.Items))
			}
		}
		is := count()
		lists, fetched, reads := is.lists-was.lists, is.fetched-was.fetched, is.consistent-was.consistent
		if lists <= 2*n && fetched <= lists && reads >= n {
			t.Logf("%d lists of the newest from the watch cache, each after a write elsewhere; they fetched %.0f objects, and waited %.1f ms on average for progress", n,
				fetched, 1000*(is.waited-was.waited)/max(1, is.waits-was.waits))
			return
		}
		// A machine that stands still for three seconds makes one fall back.
		t.Logf("%v of %d consistent lists were served by the watch cache; %v lists of %v objects went to the store", reads, n, lists, fetched)
		if round == 3 {
			t.Fatal("and so it was three times")
		}
	}
}

// encodings: a list is streamed as JSON and as protobuf, compressed and not, and as a table.
func encodings(t *testing.T, s *stand) {
	s.both(t, func(t *testing.T, x *side, ns string) {
		const n = 200
		fill(t, x, ns, n)
		path := "/api/v1/namespaces/" + ns + "/configmaps"
		for _, accept := range []string{"application/json", "application/vnd.kubernetes.protobuf"} {
			code, header, body := x.get(t, path, "Accept", accept)
			if code != http.StatusOK {
				t.Fatalf("%s: %d %s", accept, code, body)
			}
			o, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
			must(t, err)
			items := o.(*corev1.ConfigMapList).Items
			if len(items) < n || header.Get("Content-Length") != "" {
				t.Errorf("%s: %d of %d, %s bytes: it is not streamed", accept, len(items), n, header.Get("Content-Length"))
			}
		}
		_, _, body := x.get(t, path, "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
		var table metav1.Table
		must(t, json.Unmarshal(body, &table))
		if len(table.Rows) < n {
			t.Errorf("a table of %d rows", len(table.Rows))
		}
		code, header, _ := x.get(t, path, "Accept-Encoding", "gzip")
		if code != http.StatusOK || header.Get("Content-Encoding") != "gzip" {
			t.Errorf("compressed: %d, %v", code, header)
		}
	})
}
