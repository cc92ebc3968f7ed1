// awsnet for C++17: one header over awsnet.h. Handles free themselves, failures are exceptions, scores are vectors.
//
//     awsnet::Engine engine(awsnet::Model("model.safetensors"));
//     awsnet::Session session = engine.session();
//     const awsnet::Predictions &predictions = session.run(images, len);
//     const std::size_t emotion = engine.head("emotion");
//     std::cout << engine.heads()[emotion].labels[predictions.best(emotion, 0)];
//
//     awsnet::Detector detector;
//     for (const awsnet_face &face : detector.detect(frame)) engine.cut(frame, face, images);
//
// The laws of docs/c-abi.md hold: models and engines are for several threads at once, a session and a detector for one at a time. A run
// allocates nothing: a session's predictions are one object that every run overwrites.
#ifndef AWSNET_HPP
#define AWSNET_HPP

#include <awsnet.h>

#include <algorithm>
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
    void operator()(awsnet_detector *detector) const noexcept { awsnet_detector_destroy(detector); }
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

/// What a head gives for an image.
struct Head {
    std::string name;
    /// One of AWSNET_HEAD_KIND_*.
    awsnet_head_kind kind;
    /// Numbers that it gives.
    std::size_t count;
    /// One for each number; a head of values may have none.
    std::vector<std::string> labels;
    /// The probabilities from which on units count as active; none of another kind.
    std::vector<float> thresholds;
};

/// The scores of a run, by the number of the head: [images][numbers].
class Predictions {
  public:
    /// What the network computes.
    const float *logits(std::size_t head, std::size_t image) const { return at(head, image, &Scores::logits); }

    /// Softmax of the logits of classes, sigmoid of those of units, values as they are.
    const float *probabilities(std::size_t head, std::size_t image) const {
        return at(head, image, &Scores::probabilities);
    }

    /// The images of the run.
    std::size_t size() const noexcept { return size_; }

    /// The index of the most probable class of a head of classes.
    std::size_t best(std::size_t head, std::size_t image) const {
        const float *first = probabilities(head, image);
        return static_cast<std::size_t>(std::max_element(first, first + heads_[head].count) - first);
    }

  private:
    friend class Session;

    struct Scores {
        std::size_t count;
        std::vector<float> logits, probabilities;
    };

    Predictions(const std::vector<Head> &heads, std::size_t batch) {
        for (const Head &head : heads) {
            const std::vector<float> scores(batch * head.count);
            heads_.push_back({head.count, scores, scores});
        }
    }

    const float *at(std::size_t head, std::size_t image, std::vector<float> Scores::*scores) const {
        if (head >= heads_.size() || image >= size_) throw std::out_of_range("awsnet: no such head or image");
        return (heads_[head].*scores).data() + image * heads_[head].count;
    }

    std::vector<Scores> heads_;
    std::size_t size_ = 0;
};

/// One caller's memory and threads; for one thread at a time.
class Session {
  public:
    /// Runs the network on len floats, [N][channels][height][width], normalised as Engine::info says; options: a
    /// deadline, a flag that cancels.
    const Predictions &run(const float *images, std::size_t len,
                           const awsnet_run_options &options = AWSNET_RUN_OPTIONS_INIT) {
        return perform(awsnet_session_run_with, images, len, &options);
    }

    /// Runs the network on 8-bit images, which it normalises.
    const Predictions &run(const awsnet_images_u8 &images,
                           const awsnet_run_options &options = AWSNET_RUN_OPTIONS_INIT) {
        return perform(awsnet_session_run_u8_with, &images, &options);
    }

    /// Queues a run on a CUDA stream between addresses in device memory, and returns at once; see awsnet_session_enqueue.
    void enqueue(void *stream, const awsnet_device_images &images, const awsnet_predictions &addresses) {
        detail::call(awsnet_session_enqueue, handle_.get(), stream, &images, &addresses);
    }

    awsnet_session *get() noexcept { return handle_.get(); }

  private:
    friend class Engine;

    Session(const awsnet_engine *engine, const std::vector<Head> &heads, std::size_t batch)
        : predictions_(heads, batch) {
        awsnet_session *session = nullptr;
        detail::call(awsnet_session_create, engine, &session);
        handle_.reset(session);
    }

    /// A run that fails leaves no predictions.
    template <class Function, class... Arguments>
    const Predictions &perform(Function function, Arguments... arguments) {
        predictions_.size_ = 0;
        const awsnet_predictions none = AWSNET_PREDICTIONS_INIT;
        detail::call(function, handle_.get(), arguments..., &none);
        std::size_t count = 0;
        awsnet_head number = 0;
        for (Predictions::Scores &head : predictions_.heads_)
            detail::call(awsnet_session_scores, handle_.get(), number++, head.logits.data(), head.probabilities.data(),
                         head.logits.size(), &count);
        predictions_.size_ = count;
        return predictions_;
    }

    std::unique_ptr<awsnet_session, detail::Destroy> handle_;
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
        for (std::uint32_t number = 0; number < info_.head_count; number++)
            heads_.push_back(read_head(static_cast<awsnet_head>(number)));
    }

    Session session() const { return Session(get(), heads_, info_.batch); }

    /// Cuts a face out of a frame as the model's file says, and puts it at the end of images, for Session::run.
    void cut(const awsnet_frame &frame, const awsnet_face &face, std::vector<float> &images) const {
        std::vector<float> image(std::size_t{info_.channels} * info_.height * info_.width);
        detail::call(awsnet_engine_cut, get(), &frame, &face, image.data(), image.size());
        images.insert(images.end(), image.begin(), image.end());
    }

    /// What it runs on, and the images it reads.
    const awsnet_engine_info &info() const noexcept { return info_; }
    /// In the order of the model file.
    const std::vector<Head> &heads() const noexcept { return heads_; }

    /// The number of the head of a name.
    std::size_t head(const std::string &name) const {
        awsnet_head number = 0;
        detail::call(awsnet_engine_find_head, get(), name.c_str(), &number);
        return static_cast<std::size_t>(number);
    }

    /// Every choice about how the model runs, as a table for people.
    std::string describe() const {
        const char *text = nullptr;
        detail::call(awsnet_engine_describe, get(), &text);
        return text;
    }

    const awsnet_engine *get() const noexcept { return handle_.get(); }

  private:
    Head read_head(awsnet_head number) const {
        awsnet_head_info info = AWSNET_HEAD_INFO_INIT;
        detail::call(awsnet_engine_head, get(), number, &info);
        Head head{info.name, info.kind, info.count, {}, {}};
        for (std::size_t i = 0; i < info.label_count; i++) {
            const char *label = nullptr;
            detail::call(awsnet_engine_label, get(), number, i, &label);
            head.labels.emplace_back(label);
        }
        if (head.kind == AWSNET_HEAD_KIND_UNITS) head.thresholds.resize(head.count);
        for (std::size_t i = 0; i < head.thresholds.size(); i++)
            detail::call(awsnet_engine_head_threshold, get(), number, i, &head.thresholds[i]);
        return head;
    }

    std::unique_ptr<awsnet_engine, detail::Destroy> handle_;
    awsnet_engine_info info_ = AWSNET_ENGINE_INFO_INIT;
    std::vector<Head> heads_;
};

/// How to look for faces: awsnet_detector_options with every default set.
struct DetectorOptions : awsnet_detector_options {
    DetectorOptions() : awsnet_detector_options(AWSNET_DETECTOR_OPTIONS_INIT) {}
};

/// A face detector; for one thread at a time.
class Detector {
  public:
    /// The one in the library.
    explicit Detector(const awsnet_detector_options &options = DetectorOptions()) : Detector(nullptr, options) {}

    /// Another of its kind.
    explicit Detector(const Model &model, const awsnet_detector_options &options = DetectorOptions())
        : Detector(model.get(), options) {}

    /// The faces in a frame, the surest first.
    std::vector<awsnet_face> detect(const awsnet_frame &frame) {
        std::vector<awsnet_face> faces(32);
        std::size_t count = 0;
        for (;;) {
            detail::call(awsnet_detector_detect, handle_.get(), &frame, faces.data(), faces.size(), &count);
            const bool all = count <= faces.size();
            faces.resize(count);
            if (all) return faces;
        }
    }

    awsnet_detector *get() noexcept { return handle_.get(); }

  private:
    Detector(const awsnet_model *model, const awsnet_detector_options &options) {
        awsnet_detector *detector = nullptr;
        detail::call(awsnet_detector_create, model, &options, &detector);
        handle_.reset(detector);
    }

    std::unique_ptr<awsnet_detector, detail::Destroy> handle_;
};

} // namespace awsnet

#endif
