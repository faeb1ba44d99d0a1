package k8s

import "bytes"

// resource is a kind of object, each with a prefix of keys, a connection and a watch of each API server.
type resource uint8

const (
	pods resource = iota
	nodes
	leases
	events
	active // how many of them have traffic
)

// resourceNames are those in keys; Nodes are called minions there.
var resourceNames = [active]string{"pods", "minions", "leases", "events"}

// idleNames are other prefixes that an API server watches, on which nothing happens.
var idleNames = []string{
	"apiextensions.k8s.io/customresourcedefinitions", "apiregistration.k8s.io/apiservices", "certificatesigningrequests", "clusterrolebindings",
	"clusterroles", "configmaps", "controllerrevisions", "controllers", "cronjobs", "csidrivers", "csinodes", "csistoragecapacities", "daemonsets",
	"deployments", "endpointslices", "flowschemas", "horizontalpodautoscalers", "ingress", "ingressclasses", "ipaddresses", "jobs", "limitranges",
	"mutatingwebhookconfigurations", "namespaces", "networkpolicies", "persistentvolumeclaims", "persistentvolumes", "poddisruptionbudgets",
	"podtemplates", "priorityclasses", "prioritylevelconfigurations", "replicasets", "resourcequotas", "rolebindings", "roles", "runtimeclasses",
	"secrets", "serviceaccounts", "servicecidrs", "services/endpoints", "services/specs", "statefulsets", "storageclasses",
	"validatingadmissionpolicies", "validatingadmissionpolicybindings", "validatingwebhookconfigurations", "volumeattachments",
}

// keyNames makes keys under a prefix.
type keyNames struct {
	prefix [active][]byte // with the slash at the end
	ends   [active][]byte
}

func newKeyNames(prefix string) *keyNames {
	k := new(keyNames)
	for r := range active {
		k.prefix[r] = []byte(prefix + resourceNames[r] + "/")
		k.ends[r] = rangeEnd(k.prefix[r])
	}
	return k
}

// rangeEnd is the end of all keys that begin with prefix, which does not end with a byte 0xff.
func rangeEnd(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	end[len(end)-1]++
	return end
}

func (k *keyNames) pod(dst []byte, space, n int64) []byte {
	dst = appendSpace(append(dst, k.prefix[pods]...), space)
	return appendPod(append(dst, '/'), n)
}

func (k *keyNames) space(dst []byte, space int64) []byte {
	return append(appendSpace(append(dst, k.prefix[pods]...), space), '/')
}

func (k *keyNames) node(dst []byte, n int64) []byte {
	return appendNode(append(dst, k.prefix[nodes]...), n)
}

func (k *keyNames) lease(dst []byte, n int64) []byte {
	return appendNode(append(append(dst, k.prefix[leases]...), "kube-node-lease/"...), n)
}

// event is the key of Event number serial, about a pod.
func (k *keyNames) event(dst []byte, space, pod, serial int64) []byte {
	dst = appendSpace(append(dst, k.prefix[events]...), space)
	dst = append(appendPod(append(dst, '/'), pod), '.')
	dst = append(dst, markStamp...)
	putHex(dst[len(dst)-len(markStamp):], uint64(serial))
	return dst
}

func appendSpace(dst []byte, n int64) []byte {
	dst = append(dst, markSpace...)
	putSpace(dst[len(dst)-len(markSpace):], n)
	return dst
}

func appendPod(dst []byte, n int64) []byte {
	dst = append(dst, markPod...)
	putPod(dst[len(dst)-len(markPod):], n)
	return dst
}

func appendNode(dst []byte, n int64) []byte {
	dst = append(dst, markNode...)
	putNode(dst[len(dst)-len(markNode):], n)
	return dst
}

// number is the number at the end of a key of a pod, a node or a Lease, -1 when there is none.
func number(key []byte) int64 {
	i := len(key)
	for i > 0 && key[i-1] >= '0' && key[i-1] <= '9' {
		i--
	}
	if i == len(key) || len(key)-i > 18 {
		return -1
	}
	n := int64(0)
	for _, c := range key[i:] {
		n = n*10 + int64(c-'0')
	}
	return n
}
