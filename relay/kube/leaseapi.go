package kube

import (
	"context"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
)

// LeaseAPI is what a Sink needs of the API server for the Leases of nodes. The typed client
// (CoordinationV1().Leases(NodeLeaseNamespace)) is one, and speaks protobuf; DynamicLeases makes one of a dynamic client.
type LeaseAPI interface {
	Get(ctx context.Context, name string, opts metav1.GetOptions) (*coordinationv1.Lease, error)
	List(ctx context.Context, opts metav1.ListOptions) (*coordinationv1.LeaseList, error)
	Create(ctx context.Context, lease *coordinationv1.Lease, opts metav1.CreateOptions) (*coordinationv1.Lease, error)
	Update(ctx context.Context, lease *coordinationv1.Lease, opts metav1.UpdateOptions) (*coordinationv1.Lease, error)
}

// NodeLeaseNamespace is where the Leases of nodes are.
const NodeLeaseNamespace = "kube-node-lease"

// DynamicLeases reads and writes Leases with a dynamic client, as JSON.
func DynamicLeases(client dynamic.Interface) LeaseAPI {
	return dynamicLeases{client.Resource(leasesGVR).Namespace(NodeLeaseNamespace)}
}

type dynamicLeases struct{ api dynamic.ResourceInterface }

func typedLease(u *unstructured.Unstructured, err error) (*coordinationv1.Lease, error) {
	if err != nil {
		return nil, err
	}
	lease := new(coordinationv1.Lease)
	return lease, runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, lease)
}

func untypedLease(lease *coordinationv1.Lease) (*unstructured.Unstructured, error) {
	obj, err := runtime.DefaultUnstructuredConverter.ToUnstructured(lease)
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{Object: obj}
	u.SetAPIVersion(leasesGVR.GroupVersion().String())
	u.SetKind("Lease")
	return u, nil
}

// Get implements LeaseAPI.
func (d dynamicLeases) Get(ctx context.Context, name string, opts metav1.GetOptions) (*coordinationv1.Lease, error) {
	return typedLease(d.api.Get(ctx, name, opts))
}

// List implements LeaseAPI.
func (d dynamicLeases) List(ctx context.Context, opts metav1.ListOptions) (*coordinationv1.LeaseList, error) {
	list, err := d.api.List(ctx, opts)
	if err != nil {
		return nil, err
	}
	out := &coordinationv1.LeaseList{ListMeta: metav1.ListMeta{ResourceVersion: list.GetResourceVersion(), Continue: list.GetContinue()}}
	for i := range list.Items {
		lease, err := typedLease(&list.Items[i], nil)
		if err != nil {
			return nil, err
		}
		out.Items = append(out.Items, *lease)
	}
	return out, nil
}

// Create implements LeaseAPI.
func (d dynamicLeases) Create(ctx context.Context, lease *coordinationv1.Lease, opts metav1.CreateOptions) (*coordinationv1.Lease, error) {
	u, err := untypedLease(lease)
	if err != nil {
		return nil, err
	}
	return typedLease(d.api.Create(ctx, u, opts))
}

// Update implements LeaseAPI.
func (d dynamicLeases) Update(ctx context.Context, lease *coordinationv1.Lease, opts metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	u, err := untypedLease(lease)
	if err != nil {
		return nil, err
	}
	return typedLease(d.api.Update(ctx, u, opts))
}
