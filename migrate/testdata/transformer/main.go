// Command transformer is what the tests of package migrate transform nodes with. What it does is its own name.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/proto"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

type node struct {
	Key                         string
	Value                       string
	Dir                         bool
	TTL                         int64
	ModifiedIndex, CreatedIndex uint64
}

func main() {
	how := filepath.Base(os.Args[0])
	out := bufio.NewWriter(os.Stdout)
	write := func(key, value string, create, mod, version int64) {
		b, err := proto.Marshal(&mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), CreateRevision: create, ModRevision: mod, Version: version})
		if err != nil {
			panic(err)
		}
		binary.Write(out, binary.LittleEndian, int64(len(b)))
		out.Write(b)
	}
	if how == "early" {
		os.Stdin.Close()
		return
	}
	d := json.NewDecoder(os.Stdin)
	for i := int64(0); ; i++ {
		var n node
		if err := d.Decode(&n); err == io.EOF {
			break
		} else if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(4)
		}
		if n.Dir {
			continue
		}
		create, mod := int64(n.CreatedIndex), int64(n.ModifiedIndex)
		switch how {
		case "same":
			write(n.Key, n.Value, create, mod, 1)
		case "upper": // other keys, in another order of revisions
			write("/v3"+strings.ToUpper(n.Key), n.Value, 1000-mod, 1000-mod, 7)
		case "two": // of each
			write(n.Key, n.Value, 2*create, 2*mod, 1)
			write(n.Key+"/copy", n.Value, 2*create, 2*mod+1, 1)
		case "key":
			write("/one", n.Value, create, mod, 1)
		case "revision":
			write(n.Key, n.Value, 1, 7, 1)
		case "nothing":
		case "version":
			write(n.Key, n.Value, create, mod, 0)
		case "crash":
			write(n.Key, n.Value, create, mod, 1)
			out.Flush()
			panic("a mistake of mine")
		case "cut":
			write(n.Key, n.Value, create, mod, 1)
			binary.Write(out, binary.LittleEndian, int64(100))
			out.WriteString("too little")
			out.Flush()
			return
		case "huge":
			binary.Write(out, binary.LittleEndian, int64(1)<<40)
			out.Flush()
			select {}
		default:
			panic(how)
		}
	}
	out.Flush()
}
