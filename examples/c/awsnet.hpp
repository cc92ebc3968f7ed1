// awsnet for C++17: one header over awsnet.h. Handles free themselves, failures are exceptions, scores are vectors.
//
//     awsnet::Engine engine(awsnet::Model("model.safetensors"));
//     awsnet::Session session = engine.session();
//     const awsnet::Predictions &predictions = session.run(images, len);
//     std::cout << engine.emotions()[predictions.best_emotion(0)];
//
// The laws of docs/c-abi.md hold: models and engines are for several threads at once, a session for one at a time. A run
// allocates nothing: a session's predictions are one object that every run overwrites.
#ifndef AWSNET_HPP
#define AWSNET_HPP

#include <awsnet.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace awsnet {

/// A call that failed: "PLACE: expected EXPECTED, found FOUND".
class Error : public std::runtime_error {
  public:
    explicit Error(const awsnet_error &error) : std::runtime_error(error.message), status_(error.status) {}

    /// One of AWSNET_STATUS_*; decide on this, print what().
    awsnet_status status() const noexcept { return status_; }

  private:
    awsnet_status status_;
};

namespace detail {

/// Calls function(arguments..., &error) and throws what it says.
template <class Function, class... Arguments>
void call(Function function, Arguments... arguments) {
    awsnet_error error = AWSNET_ERROR_INIT;
    if (function(arguments..., &error) != AWSNET_STATUS_OK) throw Error(error);
}

struct Destroy {
    void operator()(awsnet_model *model) const noexcept { awsnet_model_destroy(model); }
    void operator()(awsnet_engine *engine) const noexcept { awsnet_engine_destroy(engine); }
    void operator()(awsnet_session *session) const noexcept { awsnet_session_destroy(session); }
};

} // namespace detail

/// A network as its file states it.
class Model {
  public:
    /// Reads a model file (.safetensors).
    explicit Model(const std::string &path) {
        awsnet_model *model = nullptr;
        detail::call(awsnet_model_load, path.c_str(), &model);
        handle_.reset(model);
    }

    /// Reads a model file that is in memory, which may be freed afterwards.
    Model(const void *bytes, std::size_t size) {
        awsnet_model *model = nullptr;
        detail::call(awsnet_model_load_bytes, bytes, size, &model);
        handle_.reset(model);
    }

    const awsnet_model *get() const noexcept { return handle_.get(); }

  private:
    std::unique_ptr<awsnet_model, detail::Destroy> handle_;
};

/// How to run a model: awsnet_engine_options with every default set.
struct EngineOptions : awsnet_engine_options {
    EngineOptions() : awsnet_engine_options(AWSNET_ENGINE_OPTIONS_INIT) {}
};

/// The scores of a run, an array a branch (AWSNET_BRANCH_*): [images][labels].
class Predictions {
  public:
    /// Before softmax or sigmoid.
    const float *logits(awsnet_branch branch, std::size_t image) const { return at(logits_, branch, image); }

    /// From 0 to 1.
    const float *probabilities(awsnet_branch branch, std::size_t image) const {
        return at(probabilities_, branch, image);
    }

    /// The images of the run.
    std::size_t size() const noexcept { return size_; }

    /// The index of the most probable emotion.
    std::size_t best_emotion(std::size_t image) const {
        const float *first = probabilities(AWSNET_BRANCH_EMOTION, image);
        return static_cast<std::size_t>(
            std::max_element(first, first + label_count_[AWSNET_BRANCH_EMOTION]) - first);
    }

  private:
    friend class Session;
    using Buffers = std::array<std::vector<float>, 2>;

    explicit Predictions(const awsnet_engine_info &info) {
        for (std::size_t branch = 0; branch < 2; branch++) {
            label_count_[branch] = info.label_count[branch];
            logits_[branch].resize(info.batch * label_count_[branch]);
            probabilities_[branch].resize(info.batch * label_count_[branch]);
        }
    }

    awsnet_predictions buffers() noexcept {
        awsnet_predictions buffers = AWSNET_PREDICTIONS_INIT;
        for (std::size_t branch = 0; branch < 2; branch++) {
            buffers.logits[branch] = logits_[branch].data();
            buffers.probabilities[branch] = probabilities_[branch].data();
            buffers.capacity[branch] = logits_[branch].size();
        }
        return buffers;
    }

    const float *at(const Buffers &buffers, awsnet_branch branch, std::size_t image) const {
        const std::size_t index = static_cast<std::size_t>(branch);
        if (index > 1 || image >= size_) throw std::out_of_range("awsnet: no such branch or image");
        return buffers[index].data() + image * label_count_[index];
    }

    std::array<std::size_t, 2> label_count_{};
    Buffers logits_, probabilities_;
    std::size_t size_ = 0;
};

/// One caller's memory and threads; for one thread at a time.
class Session {
  public:
    /// Runs the network on len floats, [N][channels][height][width], normalised as Engine::info says.
    const Predictions &run(const float *images, std::size_t len) {
        const awsnet_predictions buffers = begin();
        detail::call(awsnet_session_run, handle_.get(), images, len, &buffers);
        return end(len / image_len_);
    }

    /// As run, and gives up timeout_us microseconds after the call.
    const Predictions &run_within(const float *images, std::size_t len, std::uint64_t timeout_us) {
        const awsnet_predictions buffers = begin();
        detail::call(awsnet_session_run_within, handle_.get(), images, len, timeout_us, &buffers);
        return end(len / image_len_);
    }

    /// As run, with a deadline or a flag that cancels.
    const Predictions &run(const float *images, std::size_t len, const awsnet_run_options &options) {
        const awsnet_predictions buffers = begin();
        detail::call(awsnet_session_run_with, handle_.get(), images, len, &options, &buffers);
        return end(len / image_len_);
    }

    /// As run, with a deadline or a flag that cancels.
    const Predictions &run(const awsnet_images_u8 &images, const awsnet_run_options &options) {
        const awsnet_predictions buffers = begin();
        detail::call(awsnet_session_run_u8_with, handle_.get(), &images, &options, &buffers);
        return end(images.count);
    }

    /// Runs the network on 8-bit images, which it normalises.
    const Predictions &run(const awsnet_images_u8 &images) {
        const awsnet_predictions buffers = begin();
        detail::call(awsnet_session_run_u8, handle_.get(), &images, &buffers);
        return end(images.count);
    }

    /// Queues a run on a CUDA stream between addresses in device memory, and returns at once; see awsnet_session_enqueue.
    void enqueue(void *stream, const awsnet_device_images &images, const awsnet_predictions &addresses) {
        detail::call(awsnet_session_enqueue, handle_.get(), stream, &images, &addresses);
    }

    awsnet_session *get() noexcept { return handle_.get(); }

  private:
    friend class Engine;

    Session(const awsnet_engine *engine, const awsnet_engine_info &info)
        : image_len_(std::size_t{info.channels} * info.height * info.width), predictions_(info) {
        awsnet_session *session = nullptr;
        detail::call(awsnet_session_create, engine, &session);
        handle_.reset(session);
    }

    /// A run that fails leaves no predictions.
    awsnet_predictions begin() noexcept {
        predictions_.size_ = 0;
        return predictions_.buffers();
    }

    const Predictions &end(std::size_t count) noexcept {
        predictions_.size_ = count;
        return predictions_;
    }

    std::unique_ptr<awsnet_session, detail::Destroy> handle_;
    std::size_t image_len_;
    Predictions predictions_;
};

/// A model made ready to run. Sessions made from it outlive it.
class Engine {
  public:
    explicit Engine(const Model &model, const awsnet_engine_options &options = EngineOptions()) {
        awsnet_engine *engine = nullptr;
        detail::call(awsnet_engine_create, model.get(), &options, &engine);
        handle_.reset(engine);
        detail::call(awsnet_engine_query, get(), &info_);
        for (std::size_t branch = 0; branch < 2; branch++) {
            for (std::size_t i = 0; i < info_.label_count[branch]; i++) {
                const char *label = nullptr;
                detail::call(awsnet_engine_label, get(), static_cast<awsnet_branch>(branch), i, &label);
                labels_[branch].emplace_back(label);
            }
        }
        thresholds_.resize(info_.label_count[AWSNET_BRANCH_AU]);
        for (std::size_t i = 0; i < thresholds_.size(); i++)
            detail::call(awsnet_engine_threshold, get(), i, &thresholds_[i]);
    }

    Session session() const { return Session(get(), info_); }

    /// What it runs on, and the images it reads.
    const awsnet_engine_info &info() const noexcept { return info_; }
    const std::vector<std::string> &emotions() const noexcept { return labels_[AWSNET_BRANCH_EMOTION]; }
    const std::vector<std::string> &aus() const noexcept { return labels_[AWSNET_BRANCH_AU]; }
    /// The probability from which on each action unit counts as active.
    const std::vector<float> &thresholds() const noexcept { return thresholds_; }

    /// Every choice about how the model runs, as a table for people.
    std::string describe() const {
        const char *text = nullptr;
        detail::call(awsnet_engine_describe, get(), &text);
        return text;
    }

    const awsnet_engine *get() const noexcept { return handle_.get(); }

  private:
    std::unique_ptr<awsnet_engine, detail::Destroy> handle_;
    awsnet_engine_info info_ = AWSNET_ENGINE_INFO_INIT;
    std::array<std::vector<std::string>, 2> labels_;
    std::vector<float> thresholds_;
};

} // namespace awsnet

#endif
