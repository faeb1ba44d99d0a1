package k8s

import (
	"fmt"
	"math/rand"
	"reflect"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	genericfuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"quorate.dev/quorate/cli/kube"
)

// TestDecode fills objects of every built-in type with random values, has Kubernetes encode them as it stores them, and
// compares what we show with the YAML that Kubernetes makes of what it decodes from the same bytes.
func TestDecode(t *testing.T) {
	codec := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme)
	fill := fuzzer.FuzzerFor(genericfuzzer.Funcs, rand.NewSource(7), serializer.NewCodecFactory(scheme.Scheme))
	rounds := 40
	if testing.Short() {
		rounds = 5
	}
	kinds := storedKinds()
	if len(kinds) < 150 {
		t.Fatalf("found only %d kinds", len(kinds))
	}
	for _, gvk := range kinds {
		t.Run(fmt.Sprint(gvk.GroupVersion(), ".", gvk.Kind), func(t *testing.T) {
			for round := range rounds {
				object, err := scheme.Scheme.New(gvk)
				if err != nil {
					t.Fatal(err)
				}
				if round > 0 { // the first is empty
					fill.Fill(object)
				}
				compareDecoded(t, codec, gvk, object)
				if t.Failed() {
					return
				}
			}
		})
	}
}

func compareDecoded(t *testing.T, codec *protobuf.Serializer, gvk schema.GroupVersionKind, object runtime.Object) {
	t.Helper()
	object.GetObjectKind().SetGroupVersionKind(gvk)
	var stored strings.Builder
	if err := codec.Encode(object, &stored); err != nil {
		t.Fatal(err)
	}
	back, _, err := codec.Decode([]byte(stored.String()), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	back.GetObjectKind().SetGroupVersionKind(gvk)
	want, err := yaml.Marshal(back)
	if err != nil {
		t.Skipf("Kubernetes itself cannot show it: %v", err)
	}
	got, ok, err := kube.Decode([]byte(stored.String()))
	if err != nil || !ok {
		t.Fatalf("ok %v, error %v", ok, err)
	}
	if got != string(want) {
		a, b := strings.Split(got, "\n"), strings.Split(string(want), "\n")
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Errorf("line %d: got %q, want %q\n%s", i, a[i], b[i], strings.Join(b[max(0, i-5):min(len(b), i+3)], "\n"))
				return
			}
		}
		t.Errorf("got %d lines, want %d", len(a), len(b))
	}
}

func storedKinds() (kinds []schema.GroupVersionKind) {
	for gvk, typ := range scheme.Scheme.AllKnownTypes() {
		_, marshals := reflect.PointerTo(typ).MethodByName("Unmarshal")
		if marshals && strings.HasPrefix(typ.PkgPath(), "k8s.io/api/") && gvk.Version != runtime.APIVersionInternal && !strings.HasSuffix(gvk.Kind, "List") {
			kinds = append(kinds, gvk)
		}
	}
	slices.SortFunc(kinds, func(a, b schema.GroupVersionKind) int { return strings.Compare(a.String(), b.String()) })
	return kinds
}
