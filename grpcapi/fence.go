package grpcapi

import "slices"

// ofData says whether a service is about keys and leases, which a fenced member does not serve.
func ofData(service string) bool {
	return slices.Contains([]string{serviceKV, "etcdserverpb.Watch", "etcdserverpb.Lease", serviceLock, serviceElection}, service)
}

// fenced says whether a CORRUPT alarm takes this member out of service while the others go on. It costs a load and a look at an
// empty list.
func (v *Services) fenced() bool { return v.Store.View().Fenced(v.Member) }
