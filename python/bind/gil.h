// Giving Python's lock away and taking it again, and what becomes of who wants it after the interpreter's
// end.
//
// Before 3.14 Python ends such a thread, a daemon's, by pthread_exit(), which unwinds its stack as an
// exception does: through destructors that may not throw, which is an abort, and others that need the lock.
// Here it stands still instead, as in Python 3.14, until the process is gone. For that every place where C++
// waits for the lock, or calls Python code of unknown length, goes through here.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <thread>
#if __has_include(<cxxabi.h>)
#include <cxxabi.h>
#endif

namespace bpfsim {

template <class F>
decltype(auto) or_stand_still(const F& wants_the_lock) {
#ifdef __GLIBCXX__
  try {
    return wants_the_lock();
  } catch (abi::__forced_unwind&) {
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
  }
#else
  return wants_the_lock();
#endif
}

// A call of Python code. Nothing may stand between it and or_stand_still() that gives back what it holds of
// Python's.
inline pybind11::object call_or_stand_still(pybind11::handle function,
                                            const pybind11::tuple& arguments = pybind11::tuple()) {
  PyObject* result = or_stand_still([&] { return PyObject_CallObject(function.ptr(), arguments.ptr()); });
  if (!result) throw pybind11::error_already_set();
  return pybind11::reinterpret_steal<pybind11::object>(result);
}

// Python's other threads run for as long as it lives.
class GilAway {
 public:
  GilAway() : mine_(PyEval_SaveThread()) {}
  ~GilAway() {
    or_stand_still([this] { PyEval_RestoreThread(mine_); });
  }
  GilAway(const GilAway&) = delete;

 private:
  PyThreadState* mine_;
};

}  // namespace bpfsim
