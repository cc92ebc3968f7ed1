// predict_cpp MODEL PICTURE.png...: as predict.c, through awsnet.hpp; all pictures in one run.
#include "awsnet.hpp"

#include <cstdio>
#include <exception>
#include <vector>

#include "picture.h"

namespace {

void print(const std::string &head, const std::string &label, float score, bool active) {
    // Nine digits tell every float from its neighbours.
    std::printf("%s\t%s\t%.9g%s\n", head.c_str(), label.c_str(), static_cast<double>(score), active ? "\tactive" : "");
}

/// The picture as an image of the network's size, at the end of images.
void append(const char *path, const awsnet_engine_info &info, std::vector<std::uint8_t> &images) {
    picture photo{};
    const char *fault = picture_read(path, &photo);
    if (fault == nullptr) {
        const std::size_t begin = images.size();
        images.resize(begin + std::size_t{info.width} * info.height * info.channels);
        const picture_box whole{0, 0, photo.width, photo.height};
        fault = picture_fit(&photo, whole, info.width, info.height, info.channels, images.data() + begin);
        picture_free(&photo);
    }
    if (fault != nullptr) throw std::runtime_error(std::string(path) + ": " + fault);
}

int predict(const char *model, const std::vector<const char *> &paths) {
    awsnet::EngineOptions options;
    options.batch = static_cast<std::uint32_t>(paths.size());
    const awsnet::Engine engine(awsnet::Model(model), options);
    awsnet::Session session = engine.session();

    std::vector<std::uint8_t> pixels;
    for (const char *path : paths) append(path, engine.info(), pixels);
    awsnet_images_u8 images = AWSNET_IMAGES_U8_INIT;
    images.pixels = pixels.data();
    images.size = pixels.size();
    images.count = paths.size();
    const awsnet::Predictions &predictions = session.run(images);

    for (std::size_t image = 0; image < predictions.size(); image++) {
        for (std::size_t number = 0; number < engine.heads().size(); number++) {
            const awsnet::Head &head = engine.heads()[number];
            const float *scores = predictions.probabilities(number, image);
            for (std::size_t i = 0; i < head.count; i++) {
                const bool active = !head.thresholds.empty() && scores[i] >= head.thresholds[i];
                print(head.name, head.labels.empty() ? "" : head.labels[i], scores[i], active);
            }
        }
    }
    return 0;
}

} // namespace

int main(int argc, char **argv) try {
    if (argc < 3) {
        std::fprintf(stderr, "usage: %s MODEL PICTURE.png...\n", argv[0]);
        return 2;
    }
    return predict(argv[1], std::vector<const char *>(argv + 2, argv + argc));
} catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
