package serving

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	storagemigrationv1beta1 "k8s.io/api/storagemigration/v1beta1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The providers of secrets and limit ranges, of which the first is used to write, and all to read.
var (
	off = [2]string{"identity: {}", "identity: {}"}
	on  = [2]string{"aescbc: {keys: [{name: key1, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}", "secretbox: {keys: [{name: key2, secret: ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=}]}"}
)

// encrypt tells API servers which providers to write with.
func (s *stand) encrypt(t *testing.T, first [2]string) {
	t.Helper()
	text := "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
	for i, resource := range []string{"secrets", "limitranges"} {
		other := on[i]
		if first == on {
			other = off[i]
		}
		text += fmt.Sprintf("- resources: [%s]\n  providers: [{%s}, {%s}]\n", resource, first[i], other)
	}
	must(t, os.WriteFile(s.encryption()+".new", []byte(text), 0o600))
	must(t, os.Rename(s.encryption()+".new", s.encryption()))
}

// encryption of what is stored: off, on, and off again while all is rewritten. API servers read the changed file by themselves.
func encryption(t *testing.T, s *stand) {
	ns := namespace(t, s.cached())
	for i := range 30 {
		s.secret(t, ns, fmt.Sprintf("s-%d", i))
	}
	_, err := s.cached().CoreV1().LimitRanges(ns).Create(t.Context(), &corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Name: "l"}}, metav1.CreateOptions{})
	must(t, err)
	plain, aescbc, secretbox := []byte("k8s\x00"), []byte("k8s:enc:aescbc:v1:key1:"), []byte("k8s:enc:secretbox:v1:key2:")
	s.storedAs(t, ns, plain, plain)

	s.encrypt(t, on)
	s.reloaded(t, ns, aescbc)
	s.readable(t, ns)
	s.storedAs(t, ns, plain, plain)
	s.rewrite(t, ns)
	s.storedAs(t, ns, aescbc, secretbox)
	s.readable(t, ns)

	s.encrypt(t, off)
	s.reloaded(t, ns, plain)
	s.readable(t, ns)
	s.migrate(t, "", "secrets")
	s.migrate(t, "", "limitranges")
	s.storedAs(t, ns, plain, plain)
	s.readable(t, ns)
}

func (s *stand) secret(t *testing.T, ns, name string) {
	t.Helper()
	_, err := s.cached().CoreV1().Secrets(ns).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: map[string]string{"password": "of " + name}}, metav1.CreateOptions{})
	must(t, err)
}

// reloaded waits until all API servers write secrets so.
func (s *stand) reloaded(t *testing.T, ns string, prefix []byte) {
	t.Helper()
	for i, x := range s.sides {
		n := 0
		eventually(t, fmt.Sprintf("%s writes %q", x.name, prefix), func() error {
			n++
			name := fmt.Sprintf("probe-%d-%d-%x", i, n, prefix[len(prefix)-1])
			_, err := x.CoreV1().Secrets(ns).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: map[string]string{"password": "of " + name}}, metav1.CreateOptions{})
			if err != nil {
				return err
			}
			v := s.stored(t, "secrets/"+ns+"/"+name)
			must(t, x.CoreV1().Secrets(ns).Delete(t.Context(), name, metav1.DeleteOptions{}))
			if !bytes.HasPrefix(v, prefix) {
				return fmt.Errorf("it writes %.20q", v)
			}
			return nil
		})
	}
}

// storedAs checks how the store has the secrets and the limit range.
func (s *stand) storedAs(t *testing.T, ns string, secrets, limits []byte) {
	t.Helper()
	resp, err := s.root.Get(t.Context(), "/registry/secrets/"+ns+"/", clientv3.WithPrefix())
	must(t, err)
	for _, kv := range resp.Kvs {
		if !bytes.HasPrefix(kv.Value, secrets) || bytes.Contains(kv.Value, []byte("of s-")) != bytes.HasPrefix(secrets, []byte("k8s\x00")) {
			t.Errorf("%s is stored as %.30q, want %q", kv.Key, kv.Value, secrets)
		}
	}
	if v := s.stored(t, "limitranges/"+ns+"/l"); !bytes.HasPrefix(v, limits) {
		t.Errorf("a limit range is stored as %.30q, want %q", v, limits)
	}
}

// readable checks that all API servers can read all secrets, in their caches and not.
func (s *stand) readable(t *testing.T, ns string) {
	t.Helper()
	for _, x := range s.sides {
		l, err := x.CoreV1().Secrets(ns).List(t.Context(), metav1.ListOptions{})
		must(t, err)
		if len(l.Items) != 30 {
			t.Errorf("%s has %d of 30 secrets", x.name, len(l.Items))
		}
		for _, o := range l.Items {
			if string(o.Data["password"]) != "of "+o.Name {
				t.Errorf("%s: the secret %s is %q", x.name, o.Name, o.Data["password"])
			}
		}
	}
}

// rewrite updates all that is there with what it is, as an operator does it.
func (s *stand) rewrite(t *testing.T, ns string) {
	t.Helper()
	l, err := s.direct().CoreV1().Secrets(ns).List(t.Context(), metav1.ListOptions{})
	must(t, err)
	inParallel(t, len(l.Items), func(ctx context.Context, i int) error {
		_, err := s.direct().CoreV1().Secrets(ns).Update(ctx, &l.Items[i], metav1.UpdateOptions{})
		return err
	})
	limit, err := s.direct().CoreV1().LimitRanges(ns).Get(t.Context(), "l", metav1.GetOptions{})
	must(t, err)
	_, err = s.direct().CoreV1().LimitRanges(ns).Update(t.Context(), limit, metav1.UpdateOptions{})
	must(t, err)
}

// migrate has Kubernetes' storage version migrator rewrite all objects of a resource.
func (s *stand) migrate(t *testing.T, group, resource string) {
	t.Helper()
	migrations := s.cached().StoragemigrationV1beta1().StorageVersionMigrations()
	m, err := migrations.Create(t.Context(), &storagemigrationv1beta1.StorageVersionMigration{ObjectMeta: metav1.ObjectMeta{GenerateName: resource + "-"},
		Spec: storagemigrationv1beta1.StorageVersionMigrationSpec{Resource: metav1.GroupResource{Group: group, Resource: resource}}}, metav1.CreateOptions{})
	must(t, err)
	eventually(t, "the migration of "+resource, func() error {
		m, err := migrations.Get(t.Context(), m.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range m.Status.Conditions {
			switch {
			case c.Type == string(storagemigrationv1beta1.MigrationFailed) && c.Status == metav1.ConditionTrue:
				t.Fatalf("the migration of %s failed: %v", resource, c)
			case c.Type == string(storagemigrationv1beta1.MigrationSucceeded) && c.Status == metav1.ConditionTrue:
				return nil
			}
		}
		return fmt.Errorf("its conditions are %v", m.Status.Conditions)
	})
}

// storageVersions: the version in which custom resources are stored changes, and the migrator rewrites them.
func storageVersions(t *testing.T, s *stand) {
	s.define(t, "parts", "v1", "v2")
	x := s.cached()
	ns := namespace(t, x)
	const n = 50
	inParallel(t, n, func(ctx context.Context, i int) error {
		_, err := x.custom("parts", "v1", ns).Create(ctx, custom("Part", fmt.Sprintf("p-%d", i)), metav1.CreateOptions{})
		return err
	})
	client, err := apiextensions.NewForConfig(x.config)
	must(t, err)
	definitions := client.ApiextensionsV1().CustomResourceDefinitions()
	eventually(t, "v2 is stored", func() error {
		d, err := definitions.Get(t.Context(), "parts."+group, metav1.GetOptions{})
		must(t, err)
		d.Spec.Versions[0].Storage, d.Spec.Versions[1].Storage = false, true
		_, err = definitions.Update(t.Context(), d, metav1.UpdateOptions{})
		return err
	})
	for i, x := range s.sides {
		n := 0
		eventually(t, x.name+" stores v2", func() error {
			n++
			name := fmt.Sprintf("probe-%d-%d", i, n)
			if _, err := x.custom("parts", "v1", ns).Create(t.Context(), custom("Part", name), metav1.CreateOptions{}); err != nil {
				return err
			}
			if v := s.stored(t, group+"/parts/"+ns+"/"+name); !bytes.Contains(v, []byte(`"apiVersion":"test.quorate.dev/v2"`)) {
				return fmt.Errorf("it stores %.60q", v)
			}
			return nil
		})
	}
	s.migrate(t, group, "parts")
	resp, err := s.root.Get(t.Context(), "/registry/"+group+"/parts/", clientv3.WithPrefix())
	must(t, err)
	for _, kv := range resp.Kvs {
		if !bytes.Contains(kv.Value, []byte(`"apiVersion":"test.quorate.dev/v2"`)) {
			t.Errorf("%s is %.60q after the migration", kv.Key, kv.Value)
		}
	}
	if len(resp.Kvs) < n {
		t.Errorf("%d of %d are there", len(resp.Kvs), n)
	}
}
