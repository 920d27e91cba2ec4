// The file calls of a task, and its netlink socket.
#include "host/cgroup.h"
#include "machine.h"
#include "syscall/inode.h"

namespace bpfsim {

namespace {

py::dict file_stat(const PyTask& self, const std::string& path) {
  FileStat stat = answer(self, self.kernel().stat(*self.task, path));
  py::dict fields;
  fields["mode"] = stat.mode;
  fields["uid"] = stat.uid;
  fields["ino"] = stat.ino;
  fields["nlink"] = stat.nlink;
  fields["object"] = stat.object ? py::cast(object_view(self.owner, *stat.object)) : py::none();
  return fields;
}

}  // namespace

void bind_files(py::class_<PyTask>& task) {
  task.def(
          "open",
          [](const PyTask& t, const std::string& path, uint32_t flags) {
            return answer(t, t.kernel().open(*t.task, path, flags));
          },
          py::arg("path"), py::arg("flags") = 0,
          "open(2) of a directory in BPFFS or of cgroups, or with flags=os.O_PATH of a pin: a descriptor.\n"
          "OSError ENOENT, ENOTDIR, EISDIR, EIO.")
      .def(
          "pidfd_open",
          [](const PyTask& t, int pid, uint32_t flags) {
            return answer(t, t.kernel().pidfd_open(*t.task, pid, flags));
          },
          py::arg("pid"), py::arg("flags") = 0,
          "pidfd_open(2): a descriptor that names a process, the key of task storage. OSError ESRCH, EINVAL.")
      .def(
          "mkdir",
          [](const PyTask& t, const std::string& path, uint32_t mode) {
            answer(t, t.kernel().mkdir(*t.task, path, mode));
          },
          py::arg("path"), py::arg("mode") = 0777,
          "mkdir(2) in BPFFS, or of a cgroup below /sys/fs/cgroup. OSError EEXIST, ENOENT, EACCES, EPERM.")
      .def(
          "rmdir",
          [](const PyTask& t, const std::string& path) { answer(t, t.kernel().rmdir(*t.task, path)); },
          py::arg("path"),
          "rmdir(2). OSError ENOTEMPTY, ENOTDIR; EBUSY for a cgroup with groups or tasks in it.")
      .def(
          "unlink",
          [](const PyTask& t, const std::string& path) { answer(t, t.kernel().unlink(*t.task, path)); },
          py::arg("path"), "unlink(2): takes a pin away, and the reference that it held.")
      .def(
          "rename",
          [](const PyTask& t, const std::string& from, const std::string& to) {
            answer(t, t.kernel().rename(*t.task, from, to));
          },
          py::arg("from_path"), py::arg("to_path"), "rename(2) inside BPFFS.")
      .def(
          "chmod",
          [](const PyTask& t, const std::string& path, uint32_t mode) {
            answer(t, t.kernel().chmod(*t.task, path, mode));
          },
          py::arg("path"), py::arg("mode"), "chmod(2) in BPFFS. OSError ENOENT, EPERM.")
      .def(
          "listdir",
          [](const PyTask& t, const std::string& path) {
            return answer(t, t.kernel().listdir(*t.task, path));
          },
          py::arg("path") = "/sys/fs/bpf", "The names in a directory, sorted.")
      .def("stat", &file_stat, py::arg("path"),
           "stat(2) as a dict: mode, uid, ino, nlink, and the object of a pin.")
      .def_property_readonly(
          "cgroup",
          [](const PyTask& t) { return t.task->cgroup ? task_cgroup(*t.task).path() : "/sys/fs/cgroup"; },
          "The path of the cgroup that the task is in.")
      .def(
          "join_cgroup",
          [](const PyTask& t, const std::string& path) {
            answer(t, t.kernel().move_to_cgroup(*t.task, path, *t.task));
          },
          py::arg("path"), "Moves the task into a cgroup, as writing its pid to PATH/cgroup.procs does.")
      .def(
          "open_device",
          [](const PyTask& t, char type, uint32_t major, uint32_t minor, const std::string& access) {
            answer(t, t.kernel().open_device(*t.task, type, major, minor, access));
          },
          py::arg("type"), py::arg("major"), py::arg("minor"), py::arg("access") = "r",
          "What open(2) ('r', 'w', 'rw') or mknod(2) ('m') of a device node asks of the task's cgroup: runs\n"
          "its CGROUP_DEVICE programs, and raises OSError EPERM when one answers 0. type is 'c' or 'b'. "
          "There "
          "are no\ndevices behind: nothing is opened. Models devcgroup_check_permission().")
      .def(
          "rtnl_setlink",
          [](const PyTask& t, const py::buffer& message) {
            Bytes bytes(message, false);
            answer(t, t.kernel().rtnl_setlink(*t.task, {bytes.data(), bytes.size()}));
          },
          py::arg("message"), "Sends an RTM_SETLINK message, byte for byte. Models rtnetlink_rcv_msg().");
}

}  // namespace bpfsim
