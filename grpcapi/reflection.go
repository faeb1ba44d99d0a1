package grpcapi

import (
	"errors"
	"io"
	"path"
	"slices"

	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/rpc"
)

// registerReflection lets generic tools ask for the services and their types
// (https://github.com/grpc/grpc/blob/master/doc/server-reflection.md). The two versions of the protocol have the same
// messages. It is registered last: it lists what was registered before.
func (v *Services) registerReflection(s *rpc.Server) {
	const method = "ServerReflectionInfo"
	for _, service := range []string{"grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"} {
		v.stream(s, service, method, v.handleReflection)
	}
}

func (v *Services) handleReflection(st *rpc.Stream, _ *door) *rpc.Status {
	sent := map[string]bool{}
	for {
		msg, err := st.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return statusOf(err)
		}
		var req reflectionpb.ServerReflectionRequest
		if err := proto.Unmarshal(msg, &req); err != nil {
			return malformed(err)
		}
		b, err := proto.Marshal(v.reflect(&req, sent))
		if err == nil {
			err = st.Send(rpc.RawMessage(b))
		}
		if err != nil {
			return statusOf(err)
		}
	}
}

// reflect answers one question. Files in sent are not sent again on this stream.
func (v *Services) reflect(req *reflectionpb.ServerReflectionRequest, sent map[string]bool) *reflectionpb.ServerReflectionResponse {
	resp := &reflectionpb.ServerReflectionResponse{ValidHost: req.Host, OriginalRequest: req}
	var file protoreflect.FileDescriptor
	var err error
	switch q := req.MessageRequest.(type) {
	case *reflectionpb.ServerReflectionRequest_ListServices:
		list := &reflectionpb.ListServiceResponse{}
		for _, name := range v.names {
			list.Service = append(list.Service, &reflectionpb.ServiceResponse{Name: name})
		}
		resp.MessageResponse = &reflectionpb.ServerReflectionResponse_ListServicesResponse{ListServicesResponse: list}
		return resp
	case *reflectionpb.ServerReflectionRequest_FileByFilename:
		file, err = descriptors().FindFileByPath(q.FileByFilename)
	case *reflectionpb.ServerReflectionRequest_FileContainingSymbol:
		var d protoreflect.Descriptor
		if d, err = descriptors().FindDescriptorByName(protoreflect.FullName(q.FileContainingSymbol)); err == nil {
			file = d.ParentFile()
		}
	case *reflectionpb.ServerReflectionRequest_FileContainingExtension:
		var x protoreflect.ExtensionType
		x, err = protoregistry.GlobalTypes.FindExtensionByNumber(
			protoreflect.FullName(q.FileContainingExtension.GetContainingType()),
			protoreflect.FieldNumber(q.FileContainingExtension.GetExtensionNumber()))
		if err == nil {
			file = x.TypeDescriptor().ParentFile()
		}
	case *reflectionpb.ServerReflectionRequest_AllExtensionNumbersOfType:
		resp.MessageResponse, err = extensionsOf(q.AllExtensionNumbersOfType)
		if err == nil {
			return resp
		}
	default:
		err = errors.New("the request asks for nothing")
	}
	if err == nil {
		resp.MessageResponse, err = files(file, sent)
	}
	if err != nil {
		resp.MessageResponse = &reflectionpb.ServerReflectionResponse_ErrorResponse{ErrorResponse: &reflectionpb.ErrorResponse{
			ErrorCode: int32(fault.CodeNotFound), ErrorMessage: err.Error(),
		}}
	}
	return resp
}

// files is a file with everything it imports, as far as it was not sent. A file asked for by name is always sent.
func files(file protoreflect.FileDescriptor, sent map[string]bool) (*reflectionpb.ServerReflectionResponse_FileDescriptorResponse, error) {
	out := &reflectionpb.FileDescriptorResponse{}
	delete(sent, file.Path())
	queue := []protoreflect.FileDescriptor{file}
	for len(queue) > 0 {
		f := queue[0]
		queue = queue[1:]
		if sent[f.Path()] || f.IsPlaceholder() {
			continue
		}
		sent[f.Path()] = true
		described := protodesc.ToFileDescriptorProto(f)
		for i := range f.Imports().Len() {
			imported := registered(f.Imports().Get(i).FileDescriptor)
			described.Dependency[i] = imported.Path()
			queue = append(queue, imported)
		}
		b, err := proto.Marshal(described)
		if err != nil {
			return nil, err
		}
		out.FileDescriptorProto = append(out.FileDescriptorProto, b)
	}
	return &reflectionpb.ServerReflectionResponse_FileDescriptorResponse{FileDescriptorResponse: out}, nil
}

// registered is an imported file as it was registered. etcd's files import each other by their path in etcd's repository
// ("etcd/api/mvccpb/kv.proto") but are registered by base name alone ("kv.proto"); clients need one name for one file.
func registered(imported protoreflect.FileDescriptor) protoreflect.FileDescriptor {
	if !imported.IsPlaceholder() {
		return imported
	}
	for _, name := range []string{imported.Path(), path.Base(imported.Path())} {
		if f, err := descriptors().FindFileByPath(name); err == nil {
			return f
		}
	}
	return imported
}

func extensionsOf(name string) (*reflectionpb.ServerReflectionResponse_AllExtensionNumbersResponse, error) {
	full := protoreflect.FullName(name)
	if _, err := descriptors().FindDescriptorByName(full); err != nil {
		return nil, err
	}
	out := &reflectionpb.ExtensionNumberResponse{BaseTypeName: name}
	protoregistry.GlobalTypes.RangeExtensionsByMessage(full, func(x protoreflect.ExtensionType) bool {
		out.ExtensionNumber = append(out.ExtensionNumber, int32(x.TypeDescriptor().Number()))
		return true
	})
	slices.Sort(out.ExtensionNumber)
	return &reflectionpb.ServerReflectionResponse_AllExtensionNumbersResponse{AllExtensionNumbersResponse: out}, nil
}
