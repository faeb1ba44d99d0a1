package serving

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	k8s "quorate.dev/quorate/test/kubernetes"
)

const (
	nodeCount = 20
	podCount  = 200
)

// workload is a cluster whose nodes are kwok's: half of them one process', half of them another one's, so that half can fail.
type workload struct {
	*stand
	*side
	events *k8s.StoreCluster
	ns     string
	nodes  [2]*k8s.Process
	began  time.Time
}

// TestThreeMembers: a whole control plane on three members, with events in a store of their own, schedules pods and moves them while
// members are killed.
func TestThreeMembers(t *testing.T) {
	w := newWorkload(t)
	for _, x := range []struct {
		name string
		run  func(*testing.T)
	}{{"register", w.register}, {"schedule", w.schedule}, {"overrides", w.overrides}, {"member-killed", w.memberKilled}, {"drain", w.drain},
		{"node-fails", w.nodeFails}, {"nodes-return", w.nodesReturn}, {"scale-to-nothing", w.nothing}, {"agree", w.agree}} {
		if !t.Run(x.name, x.run) {
			break // the next begins where this one ends
		}
	}
	if t.Failed() {
		t.Logf("end of the log of the API server:\n%s", w.api.LogTail(3000))
		for _, m := range w.store.Members {
			t.Logf("end of the log of %s:\n%s", m.Name, m.LogTail(2000))
		}
	}
}

func newWorkload(t *testing.T) *workload {
	// The store compacts itself: its API server's user may not.
	s := newStand(t, 3, "--auto-compaction-mode=periodic", "--auto-compaction-retention=20s")
	s.encrypt(t, off)
	w := &workload{stand: s, events: s.protected(t, "events", 1)}
	w.side = s.newSide(t, "api", "--etcd-compaction-interval=0", "--etcd-servers-overrides=/events#"+w.events.Members[0].URL)
	s.startSides(t)
	url := w.api.URL()
	manager, err := s.plane.ControllerManager(url, "--node-monitor-grace-period=50s", "--node-eviction-rate=5")
	must(t, err)
	t.Cleanup(manager.Kill)
	scheduler, err := s.plane.Scheduler(url)
	must(t, err)
	t.Cleanup(scheduler.Kill)
	w.startNodes(t)
	t.Cleanup(func() {
		for _, p := range w.nodes {
			p.Kill()
		}
	})
	w.ns = namespace(t, w.side)
	w.began = time.Now()
	return w
}

func (w *workload) startNodes(t *testing.T) {
	for i := range w.nodes {
		var err error
		w.nodes[i], err = w.plane.Nodes(w.api.URL(), fmt.Sprintf("half=%d", i))
		must(t, err)
	}
}

// register: nodes appear and become ready, and their leases are renewed.
func (w *workload) register(t *testing.T) {
	inParallel(t, nodeCount, func(ctx context.Context, i int) error {
		room := corev1.ResourceList{"cpu": resource.MustParse("32"), "memory": resource.MustParse("64Gi"), "pods": resource.MustParse("110")}
		_, err := w.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node-%02d", i),
			Labels: map[string]string{"half": fmt.Sprint(i % 2), "kubernetes.io/hostname": fmt.Sprintf("node-%02d", i)}},
			Status: corev1.NodeStatus{Capacity: room, Allocatable: room}}, metav1.CreateOptions{})
		return err
	})
	eventually(t, "all nodes are ready, and controllers have seen it", func() error {
		if ready := w.readyNodes(t); len(ready) != nodeCount {
			return fmt.Errorf("%d are", len(ready))
		}
		l, err := w.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, n := range l.Items {
			if len(n.Spec.Taints) != 0 {
				return fmt.Errorf("%s has %v", n.Name, n.Spec.Taints)
			}
		}
		return nil
	})
	lease, err := w.CoordinationV1().Leases("kube-node-lease").Get(t.Context(), "node-00", metav1.GetOptions{})
	must(t, err)
	eventually(t, "the lease of a node is renewed", func() error {
		l, err := w.CoordinationV1().Leases("kube-node-lease").Get(t.Context(), "node-00", metav1.GetOptions{})
		if err == nil && !l.Spec.RenewTime.After(lease.Spec.RenewTime.Time) {
			err = fmt.Errorf("it is of %v", l.Spec.RenewTime)
		}
		return err
	})
}

func (w *workload) readyNodes(t *testing.T) (names []string) {
	t.Helper()
	l, err := w.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		return nil
	}
	for _, n := range l.Items {
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				names = append(names, n.Name)
			}
		}
	}
	return names
}

// schedule: the pods of a deployment are placed and run.
func (w *workload) schedule(t *testing.T) {
	app := map[string]string{"app": "web"}
	_, err := w.AppsV1().Deployments(w.ns).Create(t.Context(), &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.DeploymentSpec{
		Replicas: ptr.To(int32(podCount)), Selector: &metav1.LabelSelector{MatchLabels: app},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: app}, Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "web", Image: "web", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("100m")}}}},
			// A node that fails loses its pods after seconds, not after five minutes.
			Tolerations: []corev1.Toleration{{Key: "node.kubernetes.io/unreachable", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To(int64(2))},
				{Key: "node.kubernetes.io/not-ready", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To(int64(2))}},
		}}}}, metav1.CreateOptions{})
	must(t, err)
	_, err = w.PolicyV1().PodDisruptionBudgets(w.ns).Create(t.Context(), &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: policyv1.PodDisruptionBudgetSpec{MaxUnavailable: ptr.To(intstr.FromInt32(5)), Selector: &metav1.LabelSelector{MatchLabels: app}}}, metav1.CreateOptions{})
	must(t, err)
	w.runs(t, podCount)
	used := map[string]bool{}
	for _, p := range w.pods(t) {
		used[p.Spec.NodeName] = true
	}
	if len(used) != nodeCount {
		t.Errorf("%d of %d nodes have pods", len(used), nodeCount)
	}
}

// pods are those of the deployment that are not being deleted.
func (w *workload) pods(t *testing.T) []corev1.Pod {
	t.Helper()
	var l *corev1.PodList
	eventually(t, "pods are listed", func() (err error) { // a member may just have been killed
		l, err = w.CoreV1().Pods(w.ns).List(t.Context(), metav1.ListOptions{LabelSelector: labels.SelectorFromSet(labels.Set{"app": "web"}).String()})
		return err
	})
	return slices.DeleteFunc(l.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
}

// runs waits until n pods run, and the deployment says so.
func (w *workload) runs(t *testing.T, n int) {
	t.Helper()
	begin := time.Now()
	eventually(t, fmt.Sprintf("%d pods run", n), func() error {
		d, err := w.AppsV1().Deployments(w.ns).Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if d.Status.ReadyReplicas != int32(n) || d.Status.Replicas != int32(n) || d.Status.ObservedGeneration != d.Generation {
			return fmt.Errorf("of %d there are %d, %d of them ready", n, d.Status.Replicas, d.Status.ReadyReplicas)
		}
		running := 0 // what the deployment says may be of before the last eviction
		for _, p := range w.pods(t) {
			if p.Status.Phase == corev1.PodRunning && p.Spec.NodeName != "" {
				running++
			}
		}
		if running != n {
			return fmt.Errorf("of %d there run %d", n, running)
		}
		return nil
	})
	t.Logf("%d pods run, after %.1f s", n, time.Since(begin).Seconds())
}

func (w *workload) scale(t *testing.T, n int) {
	t.Helper()
	eventually(t, "the deployment is scaled", func() error {
		_, err := w.AppsV1().Deployments(w.ns).Patch(t.Context(), "web", types.MergePatchType, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, n), metav1.PatchOptions{}, "scale")
		return err
	})
}

// overrides: events are in the store that is for them, and nothing else is.
func (w *workload) overrides(t *testing.T) {
	other, err := w.events.Client()
	must(t, err)
	defer other.Close()
	resp, err := other.Get(t.Context(), "", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	must(t, err)
	n := 0
	for _, kv := range resp.Kvs {
		if string(kv.Key) != "compact_rev_key" {
			if n++; len(kv.Key) < 17 || string(kv.Key[:17]) != "/registry/events/" {
				t.Errorf("the store for events holds %s", kv.Key)
			}
		}
	}
	if here := w.count(t, "events/"); n == 0 || here != 0 {
		t.Errorf("%d events are in their store, %d in the other one", n, here)
	}
}

// memberKilled: the leader is killed while pods are being started and ended, comes back, and so do the others, one after the other.
func (w *workload) memberKilled(t *testing.T) {
	for i := range w.store.Members {
		m := w.leader(t)
		n := podCount / 2 * (i%2 + 1)
		w.scale(t, n)
		m.Kill()
		begin := time.Now()
		eventually(t, "a write after a kill", func() error {
			_, err := w.CoreV1().ConfigMaps(w.ns).Create(t.Context(), configMap(fmt.Sprintf("after-%d", i)), metav1.CreateOptions{})
			return err
		})
		t.Logf("%s, which led, was killed; a write was acknowledged %.1f s later", m.Name, time.Since(begin).Seconds())
		w.runs(t, n)
		must(t, m.Start())
		eventually(t, m.Name+" is back", func() error {
			_, err := w.root.Status(t.Context(), m.URL)
			return err
		})
	}
	w.scale(t, podCount)
	w.runs(t, podCount)
}

func (s *stand) leader(t *testing.T) *k8s.StoreMember {
	t.Helper()
	var leader *k8s.StoreMember
	eventually(t, "the store has a leader", func() error {
		for _, m := range s.store.Members {
			if st, err := s.root.Status(t.Context(), m.URL); err == nil && st.Leader == st.Header.MemberId {
				leader = m
				return nil
			}
		}
		return errors.New("none says so")
	})
	return leader
}

// drain: pods are evicted from a node as far as their budget allows, and run elsewhere.
func (w *workload) drain(t *testing.T) {
	const node = "node-04"
	_, err := w.CoreV1().Nodes().Patch(t.Context(), node, types.MergePatchType, []byte(`{"spec":{"unschedulable":true}}`), metav1.PatchOptions{})
	must(t, err)
	refusals := 0
	eventually(t, node+" is drained", func() error {
		left := 0
		for _, p := range w.pods(t) {
			if p.Spec.NodeName != node {
				continue
			}
			left++
			err := w.CoreV1().Pods(w.ns).EvictV1(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: p.Name}})
			if apierrors.IsTooManyRequests(err) {
				refusals++
			} else if err != nil && !apierrors.IsNotFound(err) {
				return err
			}
		}
		if left > 0 {
			return fmt.Errorf("%d pods are left", left)
		}
		return nil
	})
	w.runs(t, podCount)
	t.Logf("the budget refused %d evictions meanwhile", refusals)
}

// nodeFails: half of the nodes stop to renew their leases, so they are not ready any more, and their pods run elsewhere.
func (w *workload) nodeFails(t *testing.T) {
	w.nodes[1].Kill()
	begin := time.Now()
	eventually(t, "half of the nodes are not ready", func() error {
		if ready := w.readyNodes(t); len(ready) != nodeCount/2 {
			return fmt.Errorf("%d are ready", len(ready))
		}
		return nil
	})
	t.Logf("nodes without leases are not ready %.1f s after", time.Since(begin).Seconds())
	eventually(t, "all pods are on nodes that live", func() error {
		ready := w.readyNodes(t)
		for _, p := range w.pods(t) {
			if p.Spec.NodeName == "" || !slices.Contains(ready, p.Spec.NodeName) {
				return fmt.Errorf("%s is on %q", p.Name, p.Spec.NodeName)
			}
		}
		return nil
	})
	w.runs(t, podCount)
}

// nodesReturn: all nodes are ready again, and end the pods that they were to end meanwhile. kwok does not try again what failed while a member
// was killed, as kubelets do, so the half that lived is started anew, too.
func (w *workload) nodesReturn(t *testing.T) {
	w.nodes[0].Kill()
	w.startNodes(t)
	eventually(t, "all nodes are ready and no pod is left that should be gone", func() error {
		if ready := w.readyNodes(t); len(ready) != nodeCount {
			return fmt.Errorf("%d are ready", len(ready))
		}
		if n := w.count(t, "pods/"+w.ns+"/"); n != podCount {
			return fmt.Errorf("%d pods are stored", n)
		}
		return nil
	})
	w.runs(t, podCount)
}

// nothing is left of the pods of a deployment without replicas.
func (w *workload) nothing(t *testing.T) {
	w.scale(t, 0)
	eventually(t, "the store has no pods", func() error {
		if n := w.count(t, "pods/"+w.ns+"/"); n != 0 {
			return fmt.Errorf("it has %d", n)
		}
		return nil
	})
}

// agree: all members hold the same, and have compacted it meanwhile.
func (w *workload) agree(t *testing.T) {
	if rev := w.compactRevision(t); rev == 0 {
		t.Error("the store was never compacted")
	}
	eventually(t, "all members have the same hash", func() error {
		rev, hashes := w.revision(t), map[uint32]bool{}
		for _, m := range w.store.Members {
			h, err := w.root.HashKV(t.Context(), m.URL, rev)
			if err != nil {
				return err
			}
			hashes[h.Hash] = true
		}
		if len(hashes) != 1 {
			return fmt.Errorf("at revision %d: %v", rev, hashes)
		}
		return nil
	})
	t.Logf("%.0f s, %d revisions, %.0f requests of the API server, %.2f ms each", time.Since(w.began).Seconds(), w.revision(t),
		w.metric(t, "etcd_requests_total"), 1000*w.metric(t, "etcd_request_duration_seconds_sum")/w.metric(t, "etcd_request_duration_seconds_count"))
}
