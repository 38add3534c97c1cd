// Counts the operators that libtorch runs, by name, while it is asked to.
#include <ATen/record_function.h>

#include <map>
#include <mutex>
#include <string>

namespace {

std::mutex lock;
std::map<std::string, long> counts;

std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction &function) {
  std::lock_guard<std::mutex> guard(lock);
  ++counts[function.name()];
  return nullptr;
}

at::CallbackHandle handle;

}  // namespace

extern "C" void count_operators() {
  counts.clear();
  auto callback = at::RecordFunctionCallback(begin).scopes({at::RecordScope::FUNCTION});
  handle = at::addGlobalCallback(callback);
}

extern "C" void stop_counting() { at::removeCallback(handle); }

extern "C" long operator_count(const char *name) {
  std::lock_guard<std::mutex> guard(lock);
  auto found = counts.find(name);
  return found == counts.end() ? 0 : found->second;
}
