// Package tools runs command lines of etcdctl and etcdutl and says what they did, so that two tools can be compared byte for
// byte: standard output, standard error, exit status and the files they made.
//
// It does not judge and it expects nothing: the scripts of ../testdata/tools are command lines only, and what is right is what
// etcd's own tools do with them. parse.go reads scripts, run.go runs one against one server with one tool, normal.go removes what
// two runs of one tool on one server do not have in common either, and nothing else. The tests put them together.
package tools
