package switchover

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"quorate.dev/quorate/test/compat/proc"
	k8s "quorate.dev/quorate/test/kubernetes"
)

var (
	objects = flag.Int("objects", 300, "how many objects of about 1 KB the cluster holds before it is moved")
	result  = flag.String("result", "", "file to which what was measured is written")
)

var resources = map[string]schema.GroupVersionResource{
	"configmaps": {Version: "v1", Resource: "configmaps"},
	"secrets":    {Version: "v1", Resource: "secrets"},
	"leases":     {Group: "coordination.k8s.io", Version: "v1", Resource: "leases"},
	"gadgets":    {Group: "test.quorate.dev", Version: "v1", Resource: "gadgets"},
}

func TestMain(m *testing.M) {
	code := m.Run()
	proc.Cleanup()
	os.Exit(code)
}

// TestSwitchover goes all the ways: prepare, a copy that fails, over to Quorate, back to etcd with what was written meanwhile, a run that
// is killed in the middle and run again, one that is killed after the switch and taken back, finish.
func TestSwitchover(t *testing.T) {
	s := newStand(t)
	config := s.plane.Config(s.api)
	clients, err := kubernetes.NewForConfig(config)
	must(t, err)
	objectsOf, err := dynamic.NewForConfig(config)
	must(t, err)
	s.fill(clients, objectsOf, config)
	s.identities()

	w := s.begin(clients, objectsOf)
	s.run("prepare")
	w.settled("prepare", false)

	out, err := s.script("go", "BREAK=copy")
	if err == nil || !strings.Contains(out, "Writes are open again on etcd") || !strings.Contains(out, "the disk is full") {
		t.Errorf("a copy that fails: %v", err)
	}
	w.settled("a copy that fails", false)

	if out, err := s.script("go", "BREAK=open"); err == nil {
		t.Errorf("a run that is killed after the switch: %s", out)
	}
	if out := s.run("status"); !strings.Contains(out, "api: read-only; store: quorate-read-only") {
		t.Error("a run that is killed after the switch does not leave it so, with the doors closed")
	}
	s.run("back")
	w.settled("back before writes were open", true)

	out = s.run("go")
	w.settled("go", true, out)
	must(t, s.stores["etcd"].stop())
	w.works("etcd is stopped")

	out = s.run("back")
	w.settled("back", true, out)
	must(t, s.stores["quorate"].stop())
	w.works("quorate is stopped")

	if out, err := s.script("go", "BREAK=kill", s.as("quorate")); err == nil {
		t.Errorf("a run that is killed: %s", out)
	}
	if out := s.run("status"); !strings.Contains(out, "api: read-only; store: etcd-read-only") {
		t.Error("a run that is killed does not leave the doors closed")
	}
	s.run("go", s.as("quorate"))
	w.settled("go, after a run that was killed", true)

	s.run("back", s.as("etcd"))
	w.settled("back again", true)

	s.run("finish")
	w.settled("finish", false)
	must(t, s.stores["quorate"].stop())
	w.works("the end")
	w.end()
}

// fill makes what a cluster holds.
func (s *stand) fill(c *kubernetes.Clientset, d dynamic.Interface, config *rest.Config) {
	t, ctx := s.t, s.t.Context()
	_, err := c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	must(t, err)
	preserve := true
	x, err := apiextensions.NewForConfig(config)
	must(t, err)
	_, err = x.ApiextensionsV1().CustomResourceDefinitions().Create(ctx, &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "gadgets.test.quorate.dev"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{Group: "test.quorate.dev", Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "gadgets", Singular: "gadget", Kind: "Gadget", ListKind: "GadgetList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1", Served: true, Storage: true, Schema: &apiextensionsv1.CustomResourceValidation{
				OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: &preserve}}}}},
	}, metav1.CreateOptions{})
	must(t, err)
	kinds := map[string][2]string{"configmaps": {"v1", "ConfigMap"}, "secrets": {"v1", "Secret"}, "leases": {"coordination.k8s.io/v1", "Lease"}, "gadgets": {"test.quorate.dev/v1", "Gadget"}}
	names := slices.Sorted(maps.Keys(kinds))
	create := func(resource, name string) error {
		o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": kinds[resource][0], "kind": kinds[resource][1],
			"metadata": map[string]any{"name": name, "annotations": map[string]any{"text": strings.Repeat("0123456789abcdef", 60)}}}}
		_, err := d.Resource(resources[resource]).Namespace(namespace).Create(ctx, o, metav1.CreateOptions{})
		return err
	}
	eventually(t, "both API servers know the custom resource", func() error { // each takes its time
		for range 20 {
			if _, err := d.Resource(resources["gadgets"]).Namespace(namespace).List(ctx, metav1.ListOptions{}); err != nil {
				return err
			}
		}
		return nil
	})
	must(t, create("configmaps", "kube-root"))
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	for g := range 8 {
		wg.Go(func() {
			for i := g; i < max(*objects, 8*len(names)); i += 8 {
				if err := create(names[i/8%len(names)], fmt.Sprintf("o-%d", i)); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		})
	}
	wg.Wait()
	for range 8 {
		must(t, <-errs)
	}
	for _, r := range names { // the one that changes
		if err := create(r, "o-1"); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
}

// identities: the balancer tells API servers who a client is, and believes nobody's headers.
func (s *stand) identities() {
	t := s.t
	who := func(c *rest.Config, impersonate ...string) (string, error) {
		if impersonate != nil {
			c.Wrap(spoof(impersonate))
		}
		client, err := kubernetes.NewForConfig(c)
		must(t, err)
		r, err := client.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		if err != nil {
			return "", err
		}
		return r.Status.UserInfo.Username + " " + strings.Join(slices.Sorted(slices.Values(r.Status.UserInfo.Groups)), " "), nil
	}
	pair, err := s.plane.Cluster.Issue("alice", "alice", "developers", "testers")
	must(t, err)
	certificate := func() *rest.Config {
		return &rest.Config{Host: s.api, TLSClientConfig: rest.TLSClientConfig{CAFile: s.plane.Cluster.File, CertFile: pair.Cert, KeyFile: pair.Key}}
	}
	for name, c := range map[string]struct {
		config *rest.Config
		spoof  []string
		want   string
	}{
		"a certificate":                        {certificate(), nil, "alice developers system:authenticated testers"},
		"a token":                              {s.plane.Config(s.api), nil, "administrator system:authenticated system:masters"},
		"a certificate and somebody's headers": {certificate(), []string{"mallory", "system:masters"}, "alice developers system:authenticated testers"},
		"a token and somebody's headers":       {s.plane.Config(s.api), []string{"mallory", "none"}, "administrator system:authenticated system:masters"},
	} {
		if got, err := who(c.config, c.spoof...); got != c.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
	nobody := &rest.Config{Host: s.api, TLSClientConfig: rest.TLSClientConfig{CAFile: s.plane.Cluster.File}}
	if got, err := who(nobody, "mallory", "system:masters"); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "system:anonymous") {
		t.Errorf("nobody with somebody's headers: %q, %v; want to be refused as system:anonymous", got, err)
	}
}

// work is what goes on all the while.
type work struct {
	t        *testing.T
	s        *stand
	clients  *kubernetes.Clientset
	dynamic  dynamic.Interface
	rest     context.CancelFunc // ends what writes
	stop     context.CancelFunc // ends what reads
	writing  sync.WaitGroup
	running  sync.WaitGroup
	through  *writer // tells what the first answer is
	patient  *writer // does what client-go does by itself
	past     *writer // reaches an API server past the balancer, as pods do
	reads    *reader
	follows  *follower
	informed *informed
	report   strings.Builder
	opened   int // what was counted at the end of the last stage
	relists  int
}

func (s *stand) begin(c *kubernetes.Clientset, d dynamic.Interface) *work {
	ctx, stop := context.WithCancel(s.t.Context())
	writing, rest := context.WithCancel(ctx)
	newWriter := func(name string, retries int) *writer {
		return &writer{name: name, retries: retries, acked: map[string]string{}}
	}
	w := &work{t: s.t, s: s, clients: c, dynamic: d, rest: rest, stop: stop, through: newWriter("through", 0), patient: newWriter("patient", 10), past: newWriter("past", 0),
		reads: &reader{}, follows: &follower{added: map[string]int{}}}
	direct, err := kubernetes.NewForConfig(s.plane.Config(s.apis["cp1"].URL()))
	must(s.t, err)
	w.informed = newInformed(ctx, s.t, d)
	w.running.Go(func() { w.follows.run(ctx, c) })
	eventually(s.t, "the watch begins", func() error {
		if _, relists := w.follows.counts(); relists == 0 {
			return errors.New("not listed yet")
		}
		return nil
	})
	w.writing.Go(func() { w.through.run(writing, c) })
	w.writing.Go(func() { w.patient.run(writing, c) })
	w.writing.Go(func() { w.past.run(writing, direct) })
	w.running.Go(func() { w.reads.run(ctx, c) })
	w.writing.Go(func() { changer(writing, d, c) })
	s.t.Cleanup(func() { stop(); w.writing.Wait(); w.running.Wait() })
	w.works("the beginning")
	w.opened, w.relists = w.follows.counts()
	return w
}

// works waits until a write that begins now is acknowledged and everybody who watches has seen it.
func (w *work) works(when string) {
	w.t.Helper()
	name := fmt.Sprintf("mark-%d", time.Now().UnixNano())
	eventually(w.t, when+": writes work", func() error {
		_, err := w.clients.CoreV1().ConfigMaps(namespace).Create(w.t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			err = nil
		}
		return err
	})
	eventually(w.t, when+": watches see what is written", func() error {
		w.follows.mu.Lock()
		defer w.follows.mu.Unlock()
		if w.follows.added[name] != 1 {
			return fmt.Errorf("%s was seen %d times", name, w.follows.added[name])
		}
		return nil
	})
}

var refusal = "the cluster takes no changes while its store is being moved, reads go on: try again in some seconds"

// settled ends a stage: everything works again. A stage that moves the store must have refused writes with a reason and kept every watch.
func (w *work) settled(stage string, moves bool, output ...string) {
	t := w.t
	t.Helper()
	w.works(stage)
	opened, relists := w.follows.counts()
	errs := w.through.takeErrors()
	refused := 0
	for _, err := range errs {
		var status apierrors.APIStatus
		if errors.As(err, &status) && status.Status().Message == refusal && status.Status().Code == 503 &&
			status.Status().Reason == metav1.StatusReasonServiceUnavailable && status.Status().Details != nil && status.Status().Details.RetryAfterSeconds == 1 {
			refused++
		}
	}
	if moves && refused == 0 {
		t.Errorf("%s: no write was refused with the Status that says why: %v", stage, errs)
	}
	if moves && relists != w.relists {
		t.Errorf("%s: a watch had to begin anew %d times; it should not notice", stage, relists-w.relists)
	}
	text := fmt.Sprintf("%s:\n", stage)
	for _, o := range output {
		if m := regexp.MustCompile(`Downtime of writes: (.*)\.\n`).FindStringSubmatch(o); m != nil {
			text += fmt.Sprintf("  writes, by the script's prober: %s\n", m[1])
		}
	}
	for _, p := range []struct {
		name string
		p    *pause
	}{{"writes through the balancer, every 50 ms", &w.through.pause}, {"writes of client-go, which waits as it is told", &w.patient.pause},
		{"writes past the balancer", &w.past.pause}, {"reads through the balancer, every 50 ms", &w.reads.pause}} {
		longest, worked, failed := p.p.take()
		text += fmt.Sprintf("  %-48s %6d worked, longest pause %6.2f s", p.name, worked, longest.Seconds())
		for _, e := range slices.Sorted(maps.Keys(failed)) {
			text += fmt.Sprintf("; %d times: %s", failed[e], e)
		}
		text += "\n"
	}
	text += fmt.Sprintf("  the watch: opened again %d times, begun anew with a list %d times\n", opened-w.opened, relists-w.relists)
	w.opened, w.relists = opened, relists
	w.past.takeErrors()
	w.patient.takeErrors()
	w.report.WriteString(text)
	t.Log(text)
}

// end stops everything and judges all that was said.
func (w *work) end() {
	t, ctx := w.t, w.t.Context()
	list := func() map[string]string {
		l, err := w.clients.CoreV1().ConfigMaps(namespace).List(ctx, metav1.ListOptions{})
		must(t, err)
		have := map[string]string{}
		for _, m := range l.Items {
			have[m.Name] = m.ResourceVersion
		}
		return have
	}
	// Writers and changers rest, watches and informers go on until they have seen the last of it.
	w.rest()
	w.writing.Wait()
	have := list()
	acknowledged := 0
	for _, writer := range []*writer{w.through, w.patient, w.past} {
		for name, rv := range writer.acked {
			acknowledged++
			if have[name] != rv {
				t.Errorf("%s was acknowledged at revision %s, and is now at %q", name, rv, have[name])
			}
		}
	}
	eventually(t, "informers hold what the API lists", func() error { return w.informed.agrees(ctx, w.dynamic) })
	eventually(t, "the watch has told everything once", func() error { return w.follows.agrees(have) })
	w.stop()
	w.running.Wait()
	if wrong := slices.Concat(w.follows.wrong, w.reads.wrong); wrong != nil {
		t.Errorf("what was told went back: %v", wrong)
	}
	if acknowledged < 100 {
		t.Errorf("only %d writes were acknowledged", acknowledged)
	}
	w.report.WriteString(fmt.Sprintf("%d writes were acknowledged; all are there, at the revisions that were told\n", acknowledged))
	if *result != "" {
		load, _ := os.ReadFile("/proc/loadavg")
		head := fmt.Sprintf("Switch-over of a Kubernetes %s cluster (2 API servers, HAProxy, TLS) from etcd 3.7.3 to Quorate and back\n%s, %d processors shared by all of it and the load; load averages at the end %s%d objects of 1 KB\n\n",
			k8s.Version, time.Now().UTC().Format(time.RFC3339), runtime.NumCPU(), load, *objects)
		must(t, os.WriteFile(*result, []byte(head+w.report.String()), 0o644))
	}
}
