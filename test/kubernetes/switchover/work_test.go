package switchover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

const namespace = "work"

// pause collects when something worked, and so the longest time for which it did not.
type pause struct {
	mu      sync.Mutex
	last    time.Time
	longest time.Duration
	worked  int
	failed  map[string]int // by error
}

func (p *pause) note(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		if p.failed == nil {
			p.failed = map[string]int{}
		}
		p.failed[err.Error()]++
		return
	}
	now := time.Now()
	if !p.last.IsZero() {
		p.longest = max(p.longest, now.Sub(p.last))
	}
	p.last = now
	p.worked++
}

// take returns what was collected since the last time.
func (p *pause) take() (longest time.Duration, worked int, failed map[string]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	longest, worked, failed = p.longest, p.worked, p.failed
	p.longest, p.worked, p.failed = 0, 0, nil
	return
}

// every calls f until the context ends, 50 ms after each other or as soon as it is done.
func every(ctx context.Context, f func(i int)) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		f(i)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// writer creates ConfigMaps, one at a time, and remembers which were acknowledged, with their revisions.
type writer struct {
	pause
	name    string
	retries int // 0: the first answer counts; client-go's own is 10
	mu      sync.Mutex
	acked   map[string]string
	errs    []error
}

func (w *writer) run(ctx context.Context, c *kubernetes.Clientset) {
	every(ctx, func(i int) {
		m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%06d", w.name, i)}, Data: map[string]string{"n": strconv.Itoa(i)}}
		// Not the caller's context: an answer must not be thrown away, so that every request's end is known.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		var got corev1.ConfigMap
		err := c.CoreV1().RESTClient().Post().Namespace(namespace).Resource("configmaps").Body(m).MaxRetries(w.retries).Do(ctx).Into(&got)
		w.mu.Lock()
		if err == nil {
			w.acked[m.Name] = got.ResourceVersion
		} else {
			w.errs = append(w.errs, err)
		}
		w.mu.Unlock()
		w.note(err)
	})
}

// takeErrors returns the refusals since the last time.
func (w *writer) takeErrors() []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	errs := w.errs
	w.errs = nil
	return errs
}

// reader reads one object, lists a page, and lists from the cache, in turns. What it is told must not go back.
type reader struct {
	pause
	wrong []string
}

func (r *reader) run(ctx context.Context, c *kubernetes.Clientset) {
	newest := 0
	every(ctx, func(i int) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		get := c.CoreV1().RESTClient().Get().Namespace(namespace).Resource("configmaps").MaxRetries(0)
		var err error
		switch i % 3 {
		case 0:
			err = get.Name("kube-root").Do(ctx).Error()
		case 1:
			var list corev1.ConfigMapList
			if err = get.Param("limit", "3").Do(ctx).Into(&list); err == nil {
				if rv, _ := strconv.Atoi(list.ResourceVersion); rv < newest {
					r.wrong = append(r.wrong, fmt.Sprintf("a list was at revision %d after one at %d", rv, newest))
				} else {
					newest = rv
				}
			}
		case 2:
			err = get.Param("resourceVersion", "0").Param("limit", "3").Do(ctx).Error()
		}
		r.note(err)
	})
}

// follower watches ConfigMaps from one revision on, and resumes where it was. It counts every event.
type follower struct {
	mu      sync.Mutex
	added   map[string]int // by name; what a list told counts as seen
	last    int
	opened  int
	relists int
	wrong   []string
}

func (f *follower) run(ctx context.Context, c *kubernetes.Clientset) {
	for relist := true; ctx.Err() == nil; {
		if relist {
			list, err := c.CoreV1().ConfigMaps(namespace).List(ctx, metav1.ListOptions{})
			if err != nil {
				continue
			}
			f.mu.Lock()
			rv, _ := strconv.Atoi(list.ResourceVersion)
			if rv < f.last {
				f.wrong = append(f.wrong, fmt.Sprintf("a list was at revision %d after an event of %d", rv, f.last))
			}
			f.last = rv
			f.relists++
			for _, m := range list.Items {
				f.added[m.Name] = max(1, f.added[m.Name])
			}
			f.mu.Unlock()
		}
		f.mu.Lock()
		from := f.last
		f.opened++
		f.mu.Unlock()
		w, err := c.CoreV1().ConfigMaps(namespace).Watch(ctx, metav1.ListOptions{ResourceVersion: strconv.Itoa(from), AllowWatchBookmarks: true})
		if err != nil {
			relist = apierrors.IsResourceExpired(err) || apierrors.IsGone(err)
			continue
		}
		relist = false
		for e := range w.ResultChan() {
			if e.Type == watch.Error {
				err := apierrors.FromObject(e.Object)
				relist = apierrors.IsResourceExpired(err) || apierrors.IsGone(err)
				break
			}
			f.see(e)
		}
		w.Stop()
	}
}

func (f *follower) see(e watch.Event) {
	m := e.Object.(*corev1.ConfigMap)
	rv, _ := strconv.Atoi(m.ResourceVersion)
	f.mu.Lock()
	defer f.mu.Unlock()
	if rv < f.last || rv == f.last && e.Type != watch.Bookmark {
		f.wrong = append(f.wrong, fmt.Sprintf("%s of %s at %d after %d", e.Type, m.Name, rv, f.last))
	}
	f.last = rv
	if e.Type == watch.Added {
		f.added[m.Name]++
	}
}

// agrees reports how what was seen differs from what there is, by name; nothing was deleted.
func (f *follower) agrees(have map[string]string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name := range have {
		if f.added[name] != 1 {
			return fmt.Errorf("%s was seen %d times", name, f.added[name])
		}
	}
	if len(f.added) != len(have) {
		return fmt.Errorf("%d objects were seen, and there are %d", len(f.added), len(have))
	}
	return nil
}

func (f *follower) counts() (opened, relists int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.opened, f.relists
}

// informed runs client-go's informers of three resources, among them a custom one. No object of theirs may go back.
type informed struct {
	informers map[string]cache.SharedIndexInformer
	mu        sync.Mutex
	wrong     []string
}

func newInformed(ctx context.Context, t *testing.T, c dynamic.Interface) *informed {
	in := &informed{informers: map[string]cache.SharedIndexInformer{}}
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(c, 0, namespace, nil)
	for name, r := range resources {
		i := factory.ForResource(r).Informer()
		in.informers[name] = i
		_, err := i.AddEventHandler(cache.ResourceEventHandlerFuncs{UpdateFunc: func(old, now any) {
			a, _ := strconv.Atoi(old.(*unstructured.Unstructured).GetResourceVersion())
			b, _ := strconv.Atoi(now.(*unstructured.Unstructured).GetResourceVersion())
			if b < a {
				in.mu.Lock()
				in.wrong = append(in.wrong, fmt.Sprintf("%s %s went from revision %d to %d", name, now.(*unstructured.Unstructured).GetName(), a, b))
				in.mu.Unlock()
			}
		}})
		must(t, err)
	}
	factory.Start(ctx.Done())
	for r, ok := range factory.WaitForCacheSync(ctx.Done()) {
		if !ok {
			t.Fatalf("the informer of %v did not start", r)
		}
	}
	return in
}

// agrees reports how an informer differs from what the API lists.
func (in *informed) agrees(ctx context.Context, c dynamic.Interface) error {
	for name, r := range resources {
		list, err := c.Resource(r).Namespace(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		want, got := map[string]string{}, map[string]string{}
		for _, o := range list.Items {
			want[o.GetName()] = o.GetResourceVersion()
		}
		for _, o := range in.informers[name].GetStore().List() {
			got[o.(*unstructured.Unstructured).GetName()] = o.(*unstructured.Unstructured).GetResourceVersion()
		}
		if !maps.Equal(want, got) {
			return fmt.Errorf("the informer of %s holds %d objects, the API %d, and they are not the same", name, len(got), len(want))
		}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.wrong != nil {
		return errors.New(strings.Join(in.wrong, "; "))
	}
	return nil
}

// changer updates an object of each resource in turns, so that informers have something to see, and creates Events, which have leases.
func changer(ctx context.Context, c dynamic.Interface, clients *kubernetes.Clientset) {
	names := slices.Sorted(maps.Keys(resources))
	every(ctx, func(i int) {
		ctx := context.WithoutCancel(ctx)
		patch, _ := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{"i": strconv.Itoa(i)}}})
		_, _ = c.Resource(resources[names[i%len(names)]]).Namespace(namespace).Patch(ctx, "o-1", "application/merge-patch+json", patch, metav1.PatchOptions{})
		if i%20 == 0 {
			_, _ = clients.CoreV1().Events(namespace).Create(ctx, &corev1.Event{ObjectMeta: metav1.ObjectMeta{GenerateName: "e-"},
				InvolvedObject: corev1.ObjectReference{Kind: "ConfigMap", Namespace: namespace, Name: "o-1"}, Reason: "Changed"}, metav1.CreateOptions{})
		}
	})
}
