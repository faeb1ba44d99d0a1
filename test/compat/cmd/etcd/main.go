// Command etcd is the unmodified etcd server of the pinned module version.
// The compatibility suite builds it and uses it as the judge; the side by side
// benchmark uses it as the opponent.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
