package consul_test

import (
	"fmt"
	"testing"

	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/coordination/consul/consultest"
)

func BenchmarkGet(b *testing.B) {
	store := open(b, config(consultest.Start(b, consultest.Options{})))
	commit(b, join(b, store, "h1"), op)
	for b.Loop() {
		if _, err := store.Get(b.Context(), "a"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCommit(b *testing.B) {
	session := join(b, open(b, config(consultest.Start(b, consultest.Options{}))), "h1")
	r := commit(b, session, op)[0]
	for b.Loop() {
		r = commit(b, session, coordination.Put(r))[0]
	}
}

func BenchmarkKeys10k(b *testing.B) {
	store := open(b, config(consultest.Start(b, consultest.Options{})))
	session := join(b, store, "h1")
	for i := 0; i < 10_000; {
		var ops []coordination.Op
		for range 25 {
			ops = append(ops, coordination.Put(coordination.Record{Key: fmt.Sprintf("volumes/%02x/volume-%05d", i%256, i), Value: make([]byte, 300)}))
			i++
		}
		commit(b, session, ops...)
	}
	for b.Loop() {
		if keys, err := store.Keys(b.Context(), "volumes/"); err != nil || len(keys) != 10_000 {
			b.Fatal(len(keys), err)
		}
	}
}
