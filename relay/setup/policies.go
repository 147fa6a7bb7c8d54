package setup

import (
	"fmt"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/utils/ptr"

	"github.com/skerry/skerry/relay/api/crds"
	"github.com/skerry/skerry/relay/cloud"
	"github.com/skerry/skerry/relay/enroll"
)

// RBAC grants verbs on whole objects. What the relay needs of pods and tokens is far less, and admission policies hold its account to that: who has
// taken a relay over changes no image, makes no pod that would run anywhere, deletes none that nobody has deleted, and gets no token that outlives a pod. The
// API server evaluates them (ValidatingAdmissionPolicy, Kubernetes 1.30 and newer); an older one has RBAC alone.

// Account is the user name of the relay's ServiceAccount.
const Account = "system:serviceaccount:" + enroll.Namespace + ":" + ServiceAccount

// Policy is one admission policy for the relay's account.
type Policy struct {
	Name string                                    `json:"name"`
	Spec admissionv1.ValidatingAdmissionPolicySpec `json:"spec"`
}

// Policies returns the admission policies that hold the relay's account to what a relay does.
func Policies() []Policy {
	pods := policy("pods", admissionv1.Create, admissionv1.Update, admissionv1.Delete)
	pods.Variables = []admissionv1.Variable{
		{Name: "mirror", Expression: `'kubernetes.io/config.mirror'`},
		{Name: "away", Expression: `['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable']`},
		{Name: "tolerated", Expression: `request.operation == 'UPDATE' && has(oldObject.spec.tolerations) ? oldObject.spec.tolerations : []`},
		{Name: "containers", Expression: `request.operation != 'CREATE' ? [] : object.spec.containers + (has(object.spec.initContainers) ? object.spec.initContainers : [])`},
	}
	const create, update = `request.operation != 'CREATE' || `, `request.operation != 'UPDATE' || `
	same := func(part, except string) string {
		return fmt.Sprintf(`%[1]sdyn(object.%[2]s).all(k, k in %[3]s || k in dyn(oldObject.%[2]s) && dyn(object.%[2]s)[k] == dyn(oldObject.%[2]s)[k]) && dyn(oldObject.%[2]s).all(k, k in %[3]s || k in dyn(object.%[2]s))`, update, part, except)
	}
	pods.Validations = []admissionv1.Validation{
		deny(same("spec", `['tolerations']`), "of a pod's spec the relay changes tolerations and nothing else"),
		deny(same("metadata", `['managedFields', 'resourceVersion', 'generation']`), "the relay changes no metadata of pods"),
		deny(update+`!has(object.spec.tolerations) || object.spec.tolerations.all(t, t in variables.tolerated || has(t.key) && t.key in variables.away && has(t.effect) && t.effect == 'NoExecute')`,
			"the relay adds tolerations of nodes that are away, and no others"),
		deny(create+`has(object.metadata.annotations) && variables.mirror in object.metadata.annotations && has(object.spec.nodeName) && object.spec.nodeName != ''`,
			"the relay makes mirrors of static pods, bound to their node, and no other pods"),
		deny(create+`has(object.metadata.ownerReferences) && size(object.metadata.ownerReferences) == 1 && object.metadata.ownerReferences.all(o, o.apiVersion == 'v1' && o.kind == 'Node' && o.name == object.spec.nodeName && has(o.controller) && o.controller && (!has(o.blockOwnerDeletion) || !o.blockOwnerDeletion))`,
			"a mirror is owned by its node alone"),
		deny(create+`(!has(object.spec.serviceAccountName) || object.spec.serviceAccountName == '') && (!has(object.spec.imagePullSecrets) || size(object.spec.imagePullSecrets) == 0) && (!has(object.spec.resourceClaims) || size(object.spec.resourceClaims) == 0)`,
			"a mirror has no service account, pull secrets or resource claims"),
		deny(create+`!has(object.spec.volumes) || object.spec.volumes.all(v, dyn(v).all(k, k in ['name', 'emptyDir', 'hostPath', 'downwardAPI', 'image']))`,
			"volumes of a mirror lead to no objects of the API"),
		deny(create+`variables.containers.all(c, (!has(c.envFrom) || size(c.envFrom) == 0) && (!has(c.env) || c.env.all(e, !has(e.valueFrom) || dyn(e.valueFrom).all(k, k in ['fieldRef', 'resourceFieldRef']))))`,
			"the environment of a mirror leads to no objects of the API"),
		deny(`request.operation != 'DELETE' || has(oldObject.metadata.deletionTimestamp) || has(oldObject.metadata.annotations) && variables.mirror in oldObject.metadata.annotations`,
			"the relay removes pods that somebody has deleted, and mirrors"),
	}
	tokens := policy("serviceaccounts/token", admissionv1.Create)
	tokens.Validations = []admissionv1.Validation{
		deny(`has(object.spec.boundObjectRef) && object.spec.boundObjectRef.kind == 'Pod' && object.spec.boundObjectRef.apiVersion == 'v1' && has(object.spec.boundObjectRef.uid) && object.spec.boundObjectRef.uid != ''`,
			"the relay asks for tokens that are bound to a pod, with its UID, and for no others"),
		deny(fmt.Sprintf(`has(object.spec.expirationSeconds) && object.spec.expirationSeconds <= %d`, cloud.MaxTokenLife), "a token that the relay asks for lives for a year at most"),
	}
	return []Policy{{Name: ServiceAccount + "-pods", Spec: pods}, {Name: ServiceAccount + "-tokens", Spec: tokens}}
}

// policy is one about operations on a resource by the relay's account.
func policy(resource string, operations ...admissionv1.OperationType) admissionv1.ValidatingAdmissionPolicySpec {
	return admissionv1.ValidatingAdmissionPolicySpec{
		FailurePolicy: ptr.To(admissionv1.Fail),
		MatchConstraints: &admissionv1.MatchResources{ // with what the API server would fill in, so that a policy can be compared
			MatchPolicy: ptr.To(admissionv1.Equivalent), NamespaceSelector: new(metav1.LabelSelector), ObjectSelector: new(metav1.LabelSelector),
			ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
				Operations: operations,
				Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{resource}, Scope: ptr.To(admissionv1.AllScopes)},
			}}},
		},
		MatchConditions: []admissionv1.MatchCondition{{Name: "relay", Expression: `request.userInfo.username == '` + Account + `'`}},
	}
}

func deny(unless, message string) admissionv1.Validation {
	return admissionv1.Validation{Expression: unless, Message: message, Reason: ptr.To(metav1.StatusReasonForbidden)}
}

// NotServed is the outcome of an object that the API server is too old for.
const NotServed crds.Outcome = "skipped"

// policies installs the admission policies, each with a binding of the same name.
func (a applier) policies() error {
	served, err := a.servesPolicies()
	if err != nil {
		return err
	}
	for _, p := range Policies() {
		if !served {
			a.report(Step{"ValidatingAdmissionPolicy", p.Name, NotServed})
			continue
		}
		want := &admissionv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: p.Name}, Spec: p.Spec}
		c := a.core.AdmissionregistrationV1()
		err := ensure(a, "ValidatingAdmissionPolicy", want, c.ValidatingAdmissionPolicies(), func(have *admissionv1.ValidatingAdmissionPolicy) bool {
			return amend(&have.Spec, want.Spec)
		})
		if err != nil {
			return err
		}
		binding := &admissionv1.ValidatingAdmissionPolicyBinding{
			ObjectMeta: metav1.ObjectMeta{Name: p.Name},
			Spec:       admissionv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: p.Name, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny}},
		}
		err = ensure(a, "ValidatingAdmissionPolicyBinding", binding, c.ValidatingAdmissionPolicyBindings(), func(have *admissionv1.ValidatingAdmissionPolicyBinding) bool {
			return amend(&have.Spec, binding.Spec)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// amend makes have like want, and reports whether it was so.
func amend[T any](have *T, want T) bool {
	same := equality.Semantic.DeepEqual(*have, want)
	*have = want
	return same
}

// servesPolicies reports whether the API server has admission policies (Kubernetes 1.30).
func (a applier) servesPolicies() (bool, error) {
	list, err := a.core.Discovery().ServerResourcesForGroupVersion(admissionv1.SchemeGroupVersion.String())
	switch {
	case apierrors.IsNotFound(err), discovery.IsGroupDiscoveryFailedError(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("find out whether the API server has admission policies: %w", err)
	}
	for _, r := range list.APIResources {
		if r.Kind == "ValidatingAdmissionPolicy" {
			return true, nil
		}
	}
	return false, nil
}
