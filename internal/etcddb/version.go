package etcddb

import (
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// SetVersion makes a file, which no process may have open, say that it is of a cluster of this version, like "3.6.0". Only files
// whose data are the same in both versions may be changed so: from 3.7 to 3.6 and back. It is durable on return.
func SetVersion(path, version string) error {
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return fmt.Errorf("etcddb: open %s: %w", path, err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		meta, cluster := tx.Bucket([]byte("meta")), tx.Bucket([]byte("cluster"))
		if meta == nil || cluster == nil {
			return errors.New("it has no bucket \"meta\" or \"cluster\"")
		}
		return errors.Join(meta.Put([]byte("storageVersion"), []byte(version)), cluster.Put([]byte("clusterVersion"), []byte(version)),
			cluster.Delete([]byte("downgrade")))
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("etcddb: set the version of %s: %w", path, err)
	}
	return nil
}
