// Command gen writes the objects that package k8s sends: Pods in the stages of their life, Nodes, node Leases and Events, in the
// form in which the API server stores them. Where objects of a kind differ, they hold marks of a fixed length, which package k8s
// replaces.
//
// It is not part of the program: it has a module of its own, so that the store does not depend on Kubernetes. Run it with
// "make k8s-objects" after changing an object or the version in go.mod.
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
)

// The marks, of the lengths of what takes their place (package k8s has the same).
const (
	podName   = "MARKPODNAME-7d4b9c6f5d-0000000000"
	namespace = "MARKNS-00000"
	nodeName  = "MARKNODE-00000000"
	uid       = "MARKUID0-0000-4000-8000-000000000000"
	stamp     = "MARKSTAMP0000000"
)

// noise is text that differs between objects, as hashes and configuration do. It keeps a store from compressing 150,000 copies of
// one object into nothing.
var noise = "MARKNOISE" + strings.Repeat("x", 1024-len("MARKNOISE"))

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gen FILE")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(file string) error {
	scheme := runtime.NewScheme()
	utilruntime.Must(core.AddToScheme(scheme))
	utilruntime.Must(coordination.AddToScheme(scheme))
	encoder := protobuf.NewSerializer(scheme, scheme)
	values := map[string][]byte{}
	for name, o := range objects() {
		var b bytes.Buffer
		if err := encoder.Encode(o, &b); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		values[name] = b.Bytes()
		fmt.Printf("%-22s %6d bytes\n", name, b.Len())
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(z).Encode(values); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(file, packed.Bytes(), 0o644)
}

func objects() map[string]runtime.Object {
	all := map[string]runtime.Object{"node": node(), "lease": lease(), "event": event()}
	for _, size := range []string{"large", "small"} {
		for i, stage := range stages {
			all["pod/"+size+"/"+stage] = pod(size == "large", i)
		}
	}
	return all
}

// stages are the states in which a pod is stored during its life; its end is a deletion.
var stages = []string{"created", "bound", "initialized", "started", "ready", "terminating"}

var born = meta.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))

// fields is the managedFields entry of a manager that owns so many paths.
func fields(manager, sub string, paths ...string) meta.ManagedFieldsEntry {
	var b strings.Builder
	b.WriteString(`{"f:`)
	b.WriteString(strings.Join(paths, `":{".":{},"f:value":{},"f:type":{}},"f:`))
	b.WriteString(`":{}}`)
	return meta.ManagedFieldsEntry{Manager: manager, Operation: meta.ManagedFieldsOperationUpdate, APIVersion: "v1", Time: &born,
		FieldsType: "FieldsV1", FieldsV1: &meta.FieldsV1{Raw: []byte(b.String())}, Subresource: sub}
}

func pod(large bool, stage int) *core.Pod {
	p := &core.Pod{TypeMeta: meta.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: meta.ObjectMeta{
		Name: podName, GenerateName: "web-7d4b9c6f5d-", Namespace: namespace, UID: uid, CreationTimestamp: born,
		Labels:      map[string]string{"app": "web", "pod-template-hash": "7d4b9c6f5d", "app.kubernetes.io/name": "web", "app.kubernetes.io/part-of": "shop"},
		Annotations: map[string]string{"bench.quorate.dev/at": stamp, "kubernetes.io/config.source": "api"},
		OwnerReferences: []meta.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-7d4b9c6f5d",
			UID: "2f9d3c1a-64cc-4c5e-9e0b-0d3a3f3f4c55", Controller: ptr(true), BlockOwnerDeletion: ptr(true)}},
	}}
	containers := 1
	if large {
		containers = 3
		p.Annotations["checksum/config"] = noise
	}
	for i := range containers {
		p.Spec.Containers = append(p.Spec.Containers, container(i, large))
	}
	if large {
		p.Spec.InitContainers = []core.Container{container(containers, large)}
	}
	spec(p, large)
	paths := []string{"metadata", "labels", "ownerReferences", "spec", "containers"}
	for i := range containers * 12 {
		paths = append(paths, fmt.Sprintf("k:{\\\"name\\\":\\\"VARIABLE_%02d\\\"}", i))
	}
	p.ManagedFields = []meta.ManagedFieldsEntry{fields("kube-controller-manager", "", paths...)}
	if stage > 0 {
		p.Spec.NodeName = nodeName
	}
	status(p, stage)
	if stage == len(stages)-1 {
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &born, ptr(int64(30))
	}
	return p
}

func spec(p *core.Pod, large bool) {
	p.Spec.RestartPolicy, p.Spec.DNSPolicy, p.Spec.SchedulerName = core.RestartPolicyAlways, core.DNSClusterFirst, "default-scheduler"
	p.Spec.ServiceAccountName, p.Spec.DeprecatedServiceAccount = "default", "default"
	p.Spec.TerminationGracePeriodSeconds, p.Spec.Priority, p.Spec.EnableServiceLinks = ptr(int64(30)), ptr(int32(0)), ptr(true)
	p.Spec.SecurityContext = &core.PodSecurityContext{}
	p.Spec.Tolerations = []core.Toleration{
		{Key: "node.kubernetes.io/not-ready", Operator: core.TolerationOpExists, Effect: core.TaintEffectNoExecute, TolerationSeconds: ptr(int64(300))},
		{Key: "node.kubernetes.io/unreachable", Operator: core.TolerationOpExists, Effect: core.TaintEffectNoExecute, TolerationSeconds: ptr(int64(300))}}
	p.Spec.Volumes = []core.Volume{{Name: "kube-api-access-x7k2p", VolumeSource: core.VolumeSource{Projected: &core.ProjectedVolumeSource{
		Sources: []core.VolumeProjection{
			{ServiceAccountToken: &core.ServiceAccountTokenProjection{ExpirationSeconds: ptr(int64(3607)), Path: "token"}},
			{ConfigMap: &core.ConfigMapProjection{LocalObjectReference: core.LocalObjectReference{Name: "kube-root-ca.crt"},
				Items: []core.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}}}}}, DefaultMode: ptr(int32(0o644))}}}}
	if !large {
		return
	}
	for i := range 8 {
		p.Spec.Volumes = append(p.Spec.Volumes, core.Volume{Name: fmt.Sprintf("config-%d", i), VolumeSource: core.VolumeSource{
			ConfigMap: &core.ConfigMapVolumeSource{LocalObjectReference: core.LocalObjectReference{Name: fmt.Sprintf("web-config-part-%d", i)},
				DefaultMode: ptr(int32(0o644))}}})
	}
}

func container(i int, large bool) core.Container {
	c := core.Container{Name: fmt.Sprintf("container-%d", i), Image: "registry.example.com/shop/web-frontend:v2.31.7", ImagePullPolicy: core.PullIfNotPresent,
		TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: core.TerminationMessageReadFile,
		Ports:        []core.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: core.ProtocolTCP}},
		VolumeMounts: []core.VolumeMount{{Name: "kube-api-access-x7k2p", ReadOnly: true, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"}}}
	probe := &core.Probe{ProbeHandler: core.ProbeHandler{HTTPGet: &core.HTTPGetAction{Path: "/healthz", Scheme: core.URISchemeHTTP}},
		TimeoutSeconds: 1, PeriodSeconds: 10, SuccessThreshold: 1, FailureThreshold: 3}
	c.LivenessProbe, c.ReadinessProbe = probe, probe
	n := 2
	if large {
		n = 16
		for k := range 8 {
			c.VolumeMounts = append(c.VolumeMounts, core.VolumeMount{Name: fmt.Sprintf("config-%d", k), ReadOnly: true, MountPath: fmt.Sprintf("/etc/shop/part-%d", k)})
		}
		c.SecurityContext = &core.SecurityContext{RunAsNonRoot: ptr(true), AllowPrivilegeEscalation: ptr(false), ReadOnlyRootFilesystem: ptr(true)}
	}
	for k := range n {
		c.Env = append(c.Env, core.EnvVar{Name: fmt.Sprintf("VARIABLE_%02d", k), Value: fmt.Sprintf("http://service-%02d.shop.svc.cluster.local:80%02d", k, k)})
	}
	return c
}

// status is that of a stage: conditions, and states of the containers, as the scheduler and the kubelet write them.
func status(p *core.Pod, stage int) {
	p.Status.Phase, p.Status.QOSClass = core.PodPending, core.PodQOSBestEffort
	condition := func(t core.PodConditionType, s core.ConditionStatus) {
		p.Status.Conditions = append(p.Status.Conditions, core.PodCondition{Type: t, Status: s, LastTransitionTime: born})
	}
	if stage < 1 {
		return
	}
	condition(core.PodScheduled, core.ConditionTrue)
	if stage < 2 {
		return
	}
	p.ManagedFields = append(p.ManagedFields, fields("kubelet", "status", "conditions", "containerStatuses", "hostIP", "phase", "podIP", "podIPs", "startTime"))
	p.Status.HostIP, p.Status.StartTime = "10.24.17.93", &born
	condition(core.PodInitialized, core.ConditionTrue)
	ready := core.ConditionFalse
	if stage >= 4 {
		ready = core.ConditionTrue
	}
	condition(core.ContainersReady, ready)
	condition(core.PodReady, ready)
	for _, c := range p.Spec.Containers {
		s := core.ContainerStatus{Name: c.Name, Image: c.Image, Ready: stage >= 4}
		s.State.Waiting = &core.ContainerStateWaiting{Reason: "ContainerCreating"}
		if stage >= 3 {
			s.State = core.ContainerState{Running: &core.ContainerStateRunning{StartedAt: born}}
			s.ContainerID = "containerd://" + strings.Repeat("5f2b9a0c", 8)
			s.ImageID = "registry.example.com/shop/web-frontend@sha256:" + strings.Repeat("a81c4f7e", 8)
			s.Started = ptr(stage >= 4)
		}
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, s)
	}
	if stage >= 3 {
		p.Status.Phase, p.Status.PodIP, p.Status.PodIPs = core.PodRunning, "10.1.44.207", []core.PodIP{{IP: "10.1.44.207"}}
	}
}

func node() *core.Node {
	n := &core.Node{TypeMeta: meta.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: meta.ObjectMeta{
		Name: nodeName, UID: uid, CreationTimestamp: born,
		Labels: map[string]string{"kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux", "kubernetes.io/hostname": nodeName,
			"topology.kubernetes.io/zone": "zone-b", "topology.kubernetes.io/region": "region-1", "node.kubernetes.io/instance-type": "m6i.4xlarge"},
		Annotations: map[string]string{"bench.quorate.dev/at": stamp, "node.alpha.kubernetes.io/ttl": "0",
			"volumes.kubernetes.io/controller-managed-attach-detach": "true", "bench.quorate.dev/facts": noise},
		ManagedFields: []meta.ManagedFieldsEntry{fields("kubelet", "status", "conditions", "images", "nodeInfo", "allocatable", "capacity")},
	}}
	n.Spec.PodCIDR, n.Spec.PodCIDRs, n.Spec.ProviderID = "10.1.44.0/24", []string{"10.1.44.0/24"}, "example:///zone-b/"+nodeName
	for _, t := range []core.NodeConditionType{core.NodeMemoryPressure, core.NodeDiskPressure, core.NodePIDPressure, core.NodeReady} {
		n.Status.Conditions = append(n.Status.Conditions, core.NodeCondition{Type: t, Status: core.ConditionFalse, LastHeartbeatTime: born,
			LastTransitionTime: born, Reason: "KubeletHasSufficientMemory", Message: "kubelet has sufficient memory available"})
	}
	n.Status.Addresses = []core.NodeAddress{{Type: core.NodeInternalIP, Address: "10.24.17.93"}, {Type: core.NodeHostName, Address: nodeName}}
	n.Status.DaemonEndpoints.KubeletEndpoint.Port = 10250
	n.Status.NodeInfo = core.NodeSystemInfo{MachineID: strings.Repeat("0f1e2d3c", 4), SystemUUID: uid, BootID: uid, KernelVersion: "6.12.9-generic",
		OSImage: "Ubuntu 24.04.2 LTS", ContainerRuntimeVersion: "containerd://2.1.4", KubeletVersion: "v1.36.3", OperatingSystem: "linux", Architecture: "amd64"}
	for i := range 40 {
		n.Status.Images = append(n.Status.Images, core.ContainerImage{SizeBytes: int64(90_000_000 + i), Names: []string{
			fmt.Sprintf("registry.example.com/shop/service-%02d@sha256:%s", i, strings.Repeat("a81c4f7e", 8)),
			fmt.Sprintf("registry.example.com/shop/service-%02d:v2.31.%d", i, i)}})
	}
	return n
}

func lease() *coordination.Lease {
	renewed := meta.NewMicroTime(born.Time)
	return &coordination.Lease{TypeMeta: meta.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"}, ObjectMeta: meta.ObjectMeta{
		Name: nodeName, Namespace: "kube-node-lease", UID: uid, CreationTimestamp: born, Annotations: map[string]string{"bench.quorate.dev/at": stamp},
		OwnerReferences: []meta.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: nodeName, UID: uid}},
		ManagedFields:   []meta.ManagedFieldsEntry{fields("kubelet", "", "metadata", "ownerReferences", "spec", "holderIdentity", "leaseDurationSeconds", "renewTime")},
	}, Spec: coordination.LeaseSpec{HolderIdentity: ptr(nodeName), LeaseDurationSeconds: ptr(int32(40)), RenewTime: &renewed}}
}

func event() *core.Event {
	return &core.Event{TypeMeta: meta.TypeMeta{APIVersion: "v1", Kind: "Event"}, ObjectMeta: meta.ObjectMeta{
		Name: podName + "." + stamp, Namespace: namespace, UID: uid, CreationTimestamp: born,
		ManagedFields: []meta.ManagedFieldsEntry{fields("kubelet", "", "count", "firstTimestamp", "involvedObject", "lastTimestamp", "message", "reason", "source", "type")}},
		InvolvedObject: core.ObjectReference{Kind: "Pod", Namespace: namespace, Name: podName, UID: uid, APIVersion: "v1",
			ResourceVersion: "123456789", FieldPath: "spec.containers{container-0}"},
		Reason: "Started", Message: "Started container container-0", Source: core.EventSource{Component: "kubelet", Host: nodeName},
		FirstTimestamp: born, LastTimestamp: born, Count: 1, Type: core.EventTypeNormal, ReportingController: "kubelet", ReportingInstance: nodeName}
}

func ptr[T any](v T) *T { return &v }
