// Package v2 compares the v2 API with that of etcd 3.4: the same requests go to Debian's etcd and to quorate, one member each with
// fresh data, and statuses, headers and bodies must be the same byte for byte. Debian's etcdctl is run against both as well.
//
// It has no code of its own; what is compared how is in harness_test.go, and testdata has the requests.
package v2
