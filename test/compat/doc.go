// Package compat holds the differential suite: every scenario of testdata and every step of a seeded random walk is
// performed on a real etcd and on quorate, and the two answers are compared field by field.
//
// The package has no code of its own besides the table of chosen differences. Processes are in proc, command lines in tools, the comparison is
// in diff, scenarios are read and run by script; the tests here put them together. README.md tells how to run them.
package compat
