// Command gen writes the schema of Kubernetes' built-in types, which package kube embeds: of each type the fields' numbers on the
// wire, and their names and rules in JSON, both as the tags of the Go types say them.
//
// It is not part of the program: it has a module of its own, so that the store does not depend on Kubernetes. Run it with
// "make kube-schema" after changing the version in go.mod.
package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
)

// special are the types whose JSON is not that of their fields, by the letter that the schema has for them.
var special = map[reflect.Type]string{
	reflect.TypeFor[metav1.Time]():          "T",
	reflect.TypeFor[metav1.MicroTime]():     "U",
	reflect.TypeFor[metav1.Duration]():      "D",
	reflect.TypeFor[resource.Quantity]():    "Q",
	reflect.TypeFor[intstr.IntOrString]():   "I",
	reflect.TypeFor[runtime.RawExtension](): "R",
	reflect.TypeFor[metav1.FieldsV1]():      "F",
}

type generator struct {
	out   bytes.Buffer
	index map[reflect.Type]int
	queue []reflect.Type
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gen FILE")
		os.Exit(2)
	}
	g := &generator{index: map[reflect.Type]int{}}
	if err := g.run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func (g *generator) run(file string) error {
	known := scheme.Scheme.AllKnownTypes()
	kinds := make([]schema.GroupVersionKind, 0, len(known))
	for gvk, t := range known {
		_, marshals := reflect.PointerTo(t).MethodByName("Unmarshal")
		stored := strings.HasPrefix(t.PkgPath(), "k8s.io/api/") && gvk.Version != runtime.APIVersionInternal
		if marshals && stored && !strings.HasSuffix(gvk.Kind, "List") {
			kinds = append(kinds, gvk)
		}
	}
	slices.SortFunc(kinds, func(a, b schema.GroupVersionKind) int { return strings.Compare(a.String(), b.String()) })
	for _, gvk := range kinds {
		fmt.Fprintf(&g.out, "! %s %s %d\n", gvk.GroupVersion(), gvk.Kind, g.number(known[gvk]))
	}
	for i := 0; i < len(g.queue); i++ {
		if err := g.describe(g.queue[i]); err != nil {
			return err
		}
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(g.out.Bytes()); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	fmt.Printf("%d kinds, %d types, %d bytes\n", len(kinds), len(g.queue), packed.Len())
	return os.WriteFile(file, packed.Bytes(), 0o644)
}

// number is the place of a type in the schema.
func (g *generator) number(t reflect.Type) int {
	n, ok := g.index[t]
	if !ok {
		n = len(g.queue)
		g.index[t] = n
		g.queue = append(g.queue, t)
	}
	return n
}

func (g *generator) describe(t reflect.Type) error {
	if _, own := reflect.PointerTo(t).MethodByName("MarshalJSON"); own {
		return fmt.Errorf("%v makes its own JSON, which package kube does not know", t)
	}
	fmt.Fprintf(&g.out, "= %s\n", t)
	for i := range t.NumField() {
		f := t.Field(i)
		wire, tagged := f.Tag.Lookup("protobuf")
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !tagged || wire == "-" || name == "-" {
			continue
		}
		number := strings.Split(wire, ",")[1]
		flags := ""
		for _, option := range []string{"omitempty", "omitzero"} {
			if slices.Contains(strings.Split(options, ","), option) {
				flags += map[string]string{"omitempty": "o", "omitzero": "z"}[option]
			}
		}
		if f.Anonymous && name == "" {
			flags += "n"
		}
		if name == "" {
			name = f.Name
		}
		kind, more, elem, err := g.kind(f.Type)
		if err != nil {
			return fmt.Errorf("%v.%s: %w", t, f.Name, err)
		}
		fmt.Fprintf(&g.out, "%s %s -%s%s %s %d\n", number, kind, flags, more, name, elem)
	}
	return nil
}

// kind is the letter of a type, its flags (r repeated, p map, * pointer), and the number of its message type.
func (g *generator) kind(t reflect.Type) (kind, flags string, elem int, err error) {
	if s, ok := special[t]; ok {
		return s, "", 0, nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		kind, flags, elem, err = g.kind(t.Elem())
		return kind, flags + "*", elem, err
	case reflect.String:
		return "s", "", 0, nil
	case reflect.Bool:
		return "b", "", 0, nil
	case reflect.Int32, reflect.Int64, reflect.Int:
		return "i", "", 0, nil
	case reflect.Uint32, reflect.Uint64:
		return "u", "", 0, nil
	case reflect.Float64:
		return "d", "", 0, nil
	case reflect.Struct:
		return "m", "", g.number(t), nil
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "y", "", 0, nil
		}
		if _, wrapped := reflect.PointerTo(t).MethodByName("Unmarshal"); wrapped {
			return "W", "", 0, nil
		}
		kind, flags, elem, err = g.kind(t.Elem())
		return kind, "r" + strings.TrimSuffix(flags, "*"), elem, err
	case reflect.Map:
		kind, flags, elem, err = g.kind(t.Elem())
		if flags != "" {
			return "", "", 0, fmt.Errorf("a map of %v is not known", t.Elem())
		}
		return kind, "p", elem, err
	}
	return "", "", 0, fmt.Errorf("a %v is not known", t)
}
