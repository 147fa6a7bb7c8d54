package crds

import (
	"context"
	"fmt"
	"slices"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	clientset "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

// Outcome says what Install did with one definition.
type Outcome string

// What Install did.
const (
	Created   Outcome = "created"
	Updated   Outcome = "updated"
	Unchanged Outcome = "unchanged"
)

// Install makes the cluster's definitions equal to the embedded ones, reports each by name, and waits (at most 30 s each)
// until the API server serves them. A definition that somebody else changed meanwhile is read and written again.
func Install(ctx context.Context, c clientset.Interface, report func(name string, o Outcome)) error {
	all, err := All()
	if err != nil {
		return err
	}
	for _, crd := range all {
		o, err := install(ctx, c, crd)
		if err != nil {
			return fmt.Errorf("CustomResourceDefinition %s: %w", crd.Name, err)
		}
		report(crd.Name, o)
	}
	for _, crd := range all {
		if err := waitServed(ctx, c, crd.Name); err != nil {
			return fmt.Errorf("CustomResourceDefinition %s is installed, but the API server does not serve it: %w", crd.Name, err)
		}
	}
	return nil
}

func install(ctx context.Context, c clientset.Interface, want *apiextensionsv1.CustomResourceDefinition) (Outcome, error) {
	crds := c.ApiextensionsV1().CustomResourceDefinitions()
	for attempt := 0; ; attempt++ {
		have, err := crds.Get(ctx, want.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			_, err = crds.Create(ctx, want, metav1.CreateOptions{})
			if apierrors.IsAlreadyExists(err) && attempt < 5 {
				continue
			}
			return Created, err
		}
		if err != nil {
			return "", err
		}
		if lost := unservedVersions(have, want); len(lost) > 0 {
			return "", fmt.Errorf("the cluster stores objects in version %v, which Skerry does not have: migrate them to v1beta1 first (an older KubeEdge installed this definition)", lost)
		}
		next := have.DeepCopy()
		next.Spec = *want.Spec.DeepCopy()
		// The API server fills these in; leaving them out would look like a change each time.
		next.Spec.Conversion = have.Spec.Conversion
		if next.Annotations == nil {
			next.Annotations = map[string]string{}
		}
		for k, v := range want.Annotations {
			next.Annotations[k] = v
		}
		if equality.Semantic.DeepEqual(have, next) {
			return Unchanged, nil
		}
		_, err = crds.Update(ctx, next, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) && attempt < 5 {
			continue
		}
		return Updated, err
	}
}

// unservedVersions lists versions in which the cluster may hold stored objects and which want lacks: the API server would
// refuse the update with a message that names no remedy.
func unservedVersions(have, want *apiextensionsv1.CustomResourceDefinition) []string {
	var lost []string
	for _, v := range have.Status.StoredVersions {
		if !slices.ContainsFunc(want.Spec.Versions, func(w apiextensionsv1.CustomResourceDefinitionVersion) bool { return w.Name == v }) {
			lost = append(lost, v)
		}
	}
	return lost
}

func waitServed(ctx context.Context, c clientset.Interface, name string) error {
	return wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		crd, err := c.ApiextensionsV1().CustomResourceDefinitions().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		for _, cond := range crd.Status.Conditions {
			switch {
			case cond.Type == apiextensionsv1.Established && cond.Status == apiextensionsv1.ConditionTrue:
				return true, nil
			case cond.Type == apiextensionsv1.NamesAccepted && cond.Status == apiextensionsv1.ConditionFalse:
				return false, fmt.Errorf("%s: %s", cond.Reason, cond.Message)
			}
		}
		return false, nil
	})
}
