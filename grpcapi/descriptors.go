package grpcapi

import (
	"errors"
	"sync"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// The generated packages of Lock and Election belong to etcd's server module, which is not imported here. Their files are
// described below for reflection; they are not put into the global registry, where a program that also links etcd's own
// packages would find them twice.

// descriptors resolves everything that reflection can be asked for.
func descriptors() resolver { return ownFiles() }

// Files finds the descriptors of all services of this package, for those who read or write messages without their Go types.
func Files() protodesc.Resolver { return descriptors() }

// resolver looks in our own files first, then in the global registry.
type resolver struct{ own *protoregistry.Files }

// FindFileByPath implements protodesc.Resolver.
func (r resolver) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	if r.own != nil {
		if f, err := r.own.FindFileByPath(path); err == nil {
			return f, nil
		}
	}
	return protoregistry.GlobalFiles.FindFileByPath(path)
}

// FindDescriptorByName implements protodesc.Resolver.
func (r resolver) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if r.own != nil {
		if d, err := r.own.FindDescriptorByName(name); err == nil {
			return d, nil
		}
	}
	return protoregistry.GlobalFiles.FindDescriptorByName(name)
}

var ownFiles = sync.OnceValue(func() resolver {
	own := new(protoregistry.Files)
	for _, f := range []*descriptorpb.FileDescriptorProto{lockFile(), electionFile()} {
		fd, err := protodesc.NewFile(f, resolver{})
		if err == nil {
			err = own.RegisterFile(fd)
		}
		if err != nil {
			panic("BUG: " + f.GetName() + ": " + errors.Unwrap(err).Error())
		}
	}
	return resolver{own}
})

const (
	headerType = ".etcdserverpb.ResponseHeader"
	recordType = ".mvccpb.KeyValue"
)

func lockFile() *descriptorpb.FileDescriptorProto {
	return file(lockProtoFile, "v3lockpb",
		[]string{etcdserverpb.File_rpc_proto.Path()},
		[]*descriptorpb.DescriptorProto{
			message("LockRequest", bytesField("name", 1), intField("lease", 2)),
			message("LockResponse", messageField("header", 1, headerType), bytesField("key", 2)),
			message("UnlockRequest", bytesField("key", 1)),
			message("UnlockResponse", messageField("header", 1, headerType)),
		},
		&descriptorpb.ServiceDescriptorProto{Name: proto.String("Lock"), Method: []*descriptorpb.MethodDescriptorProto{
			method("Lock", ".v3lockpb.LockRequest", ".v3lockpb.LockResponse", false),
			method("Unlock", ".v3lockpb.UnlockRequest", ".v3lockpb.UnlockResponse", false),
		}})
}

func electionFile() *descriptorpb.FileDescriptorProto {
	const pkg = ".v3electionpb."
	return file(electionProtoFile, "v3electionpb",
		[]string{etcdserverpb.File_rpc_proto.Path(), mvccpb.File_kv_proto.Path()},
		[]*descriptorpb.DescriptorProto{
			message("CampaignRequest", bytesField("name", 1), intField("lease", 2), bytesField("value", 3)),
			message("CampaignResponse", messageField("header", 1, headerType), messageField("leader", 2, pkg+"LeaderKey")),
			message("LeaderKey", bytesField("name", 1), bytesField("key", 2), intField("rev", 3), intField("lease", 4)),
			message("LeaderRequest", bytesField("name", 1)),
			message("LeaderResponse", messageField("header", 1, headerType), messageField("kv", 2, recordType)),
			message("ResignRequest", messageField("leader", 1, pkg+"LeaderKey")),
			message("ResignResponse", messageField("header", 1, headerType)),
			message("ProclaimRequest", messageField("leader", 1, pkg+"LeaderKey"), bytesField("value", 2)),
			message("ProclaimResponse", messageField("header", 1, headerType)),
		},
		&descriptorpb.ServiceDescriptorProto{Name: proto.String("Election"), Method: []*descriptorpb.MethodDescriptorProto{
			method("Campaign", pkg+"CampaignRequest", pkg+"CampaignResponse", false),
			method("Proclaim", pkg+"ProclaimRequest", pkg+"ProclaimResponse", false),
			method("Leader", pkg+"LeaderRequest", pkg+"LeaderResponse", false),
			method("Observe", pkg+"LeaderRequest", pkg+"LeaderResponse", true),
			method("Resign", pkg+"ResignRequest", pkg+"ResignResponse", false),
		}})
}

func file(name, pkg string, imports []string, messages []*descriptorpb.DescriptorProto, service *descriptorpb.ServiceDescriptorProto) *descriptorpb.FileDescriptorProto {
	return &descriptorpb.FileDescriptorProto{
		Name: proto.String(name), Package: proto.String(pkg), Syntax: proto.String("proto3"), Dependency: imports,
		MessageType: messages, Service: []*descriptorpb.ServiceDescriptorProto{service},
	}
}

func message(name string, fields ...*descriptorpb.FieldDescriptorProto) *descriptorpb.DescriptorProto {
	return &descriptorpb.DescriptorProto{Name: proto.String(name), Field: fields}
}

func field(name string, number int32, kind descriptorpb.FieldDescriptorProto_Type) *descriptorpb.FieldDescriptorProto {
	return &descriptorpb.FieldDescriptorProto{
		Name: proto.String(name), JsonName: proto.String(name), Number: proto.Int32(number), Type: kind.Enum(),
		Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
	}
}

func bytesField(name string, number int32) *descriptorpb.FieldDescriptorProto {
	return field(name, number, descriptorpb.FieldDescriptorProto_TYPE_BYTES)
}

func intField(name string, number int32) *descriptorpb.FieldDescriptorProto {
	return field(name, number, descriptorpb.FieldDescriptorProto_TYPE_INT64)
}

func messageField(name string, number int32, of string) *descriptorpb.FieldDescriptorProto {
	f := field(name, number, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE)
	f.TypeName = proto.String(of)
	return f
}

func method(name, in, out string, streams bool) *descriptorpb.MethodDescriptorProto {
	m := &descriptorpb.MethodDescriptorProto{Name: proto.String(name), InputType: proto.String(in), OutputType: proto.String(out)}
	if streams {
		m.ServerStreaming = proto.Bool(true)
	}
	return m
}
