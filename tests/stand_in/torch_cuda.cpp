// A libtorch_cuda.so that registers one GPU with libtorch and can do nothing on it: what the real library does when
// it is loaded, on a machine without a GPU. Whether it is seen depends on when it is loaded alone.
#include <ATen/detail/CUDAHooksInterface.h>

namespace {

struct OneGpu final : at::CUDAHooksInterface {
  explicit OneGpu(at::CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  int getNumGPUs() const override { return 1; }
  c10::DeviceIndex deviceCount() const override { return 1; }
};

}  // namespace

// The macro of the registry names things of this namespace.
namespace at {
using ::OneGpu;
C10_REGISTER_CLASS(CUDAHooksRegistry, CUDAHooks, OneGpu)
}  // namespace at
